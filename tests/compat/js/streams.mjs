// Reads the cases from standard input, streams each of their mode lists, and prints what came.
import { readFileSync } from "node:fs";

import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2], apiKey: null });

/** Request fields are written as on the wire; this client wants them in its own spelling. */
const spelled = (fields) =>
  Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name.replace(/_(\w)/g, (_, c) => c.toUpperCase()), value]),
  );

async function stream(definition, modes) {
  const { thread_id: thread } = await client.threads.create();
  if (definition.before) await client.runs.wait(thread, definition.graph, spelled(definition.before));
  const parts = [];
  const options = { ...spelled(definition.run), streamMode: modes };
  for await (const part of client.runs.stream(thread, definition.graph, options)) {
    parts.push([part.event, part.data]);
  }
  return parts;
}

const found = {};
for (const [name, definition] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) {
  found[name] = {};
  for (const modes of definition.modes) {
    found[name][modes.join(" ")] = await stream(definition, modes);
  }
}
console.log(JSON.stringify(found));
