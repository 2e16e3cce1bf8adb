// @ts-check
/** The assistants that can be asked, and the form of their input. */

import { call, search } from "./wire.js";

/** @returns {Promise<any[]>} By name. */
export async function allAssistants() {
  const { items } = await search("assistants/search", { limit: 1000, sort_by: "name", sort_order: "asc" });
  return items;
}

/** @typedef {{ talks: boolean, example: Record<string, unknown> }} Input `talks`: it takes messages. */

/** @type {Map<string, Promise<Input>>} A schema is large and changes only with the server. */
const known = new Map();

/** @param {string} assistantId @returns {Promise<Input>} */
export function inputOf(assistantId) {
  const asked = known.get(assistantId) ?? read(assistantId);
  known.set(assistantId, asked);
  asked.catch(() => known.delete(assistantId));
  return asked;
}

/** @param {string} assistantId @returns {Promise<Input>} */
async function read(assistantId) {
  const { input_schema: schema } = await call("GET", `assistants/${assistantId}/schemas`);
  const properties = schema?.properties ?? {};
  const example = Object.fromEntries(
    Object.entries(properties).map(([name, property]) => [name, exampleOf(/** @type {any} */ (property))]),
  );
  return { talks: schema === null || "messages" in properties, example };
}

/** @param {any} property Of a JSON schema. */
function exampleOf(property) {
  if ((property.default ?? null) !== null) return property.default;
  const type = property.type ?? property.anyOf?.find((/** @type {any} */ one) => one.type !== "null")?.type;
  switch (type) {
    case "string": return property.enum?.[0] ?? "";
    case "integer":
    case "number": return 0;
    case "boolean": return false;
    case "array": return [];
    case "object": return {};
    default: return null;
  }
}
