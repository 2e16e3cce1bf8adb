// @ts-check
import { html } from "../html.js";

const DEEPEST = 6;
const LONG = 2000;

/**
 * Any JSON value to read: objects as tables of names and values, lists as lists.
 * @param {{ value: any, depth?: number }} props
 */
export function Value({ value, depth = 0 }) {
  if (value === null || value === undefined) return html`<span class="faint">none</span>`;
  if (typeof value === "boolean") return html`<span class="literal">${value ? "yes" : "no"}</span>`;
  if (typeof value === "number") return html`<span class="literal">${value}</span>`;
  if (typeof value === "string") return html`<${Text} text=${value} />`;
  if (depth > DEEPEST) return html`<code>${JSON.stringify(value)}</code>`;
  return Array.isArray(value) ? list(value, depth) : table(value, depth);
}

/** @param {any[]} values @param {number} depth */
function list(values, depth) {
  if (!values.length) return html`<span class="faint">empty list</span>`;
  return html`<ul class="value-list">
    ${values.map((value) => html`<li><${Value} value=${value} depth=${depth + 1} /></li>`)}
  </ul>`;
}

/** @param {Record<string, any>} value @param {number} depth */
function table(value, depth) {
  if (!Object.keys(value).length) return html`<span class="faint">nothing</span>`;
  return html`<table class="value"><tbody>${rows(value, depth, 0)}</tbody></table>`;
}

/**
 * An object inside an object becomes indented rows of the same table, so that all values stay in one column.
 * @param {Record<string, any>} value @param {number} depth @param {number} indent
 * @returns {any[]}
 */
function rows(value, depth, indent) {
  return Object.entries(value).map(([name, one]) => {
    const inner = typeof one === "object" && one !== null && !Array.isArray(one) && Object.keys(one).length > 0;
    if (!inner || depth + indent > DEEPEST) {
      return html`<tr><th scope="row" class=${`indent-${indent}`}>${breakable(name)}</th>
        <td><${Value} value=${one} depth=${depth + indent + 1} /></td></tr>`;
    }
    return [
      html`<tr><th scope="rowgroup" colspan="2" class=${`indent-${indent}`}>${breakable(name)}</th></tr>`,
      ...rows(one, depth, indent + 1),
    ];
  });
}

/** A name that may wrap after its underscores. @param {string} name */
function breakable(name) {
  return name.split(/(?<=_)/).map((part) => html`${part}<wbr />`);
}

/** @param {{ text: string }} props */
function Text({ text }) {
  if (text === "") return html`<span class="faint">empty text</span>`;
  if (text.length <= LONG) return html`<span class="text">${text}</span>`;
  return html`<details class="long"><summary>${text.slice(0, 200)}… (${text.length} characters)</summary>
    <pre tabindex="0" role="group" aria-label="Whole text">${text}</pre></details>`;
}
