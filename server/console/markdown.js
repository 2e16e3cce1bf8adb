// @ts-check
/**
 * Markdown of a model to elements, never to markup text: what is not understood stays text.
 * Paragraphs, headings, lists, quotes, code, tables, rules; emphasis, code and links inside a line.
 */

import { html } from "./html.js";

const DEEPEST = 6; // Of quotes, lists and emphasis in one another; deeper is shown as it is written.
const LONGEST_LABEL = 500;
const LONGEST_ADDRESS = 2000;
const SAFE = /^(https?:\/\/|mailto:)[^\s]+$/i;

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(\S.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const TABLE_RULE = /^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/** @param {string} text */
export function markdown(text) {
  return blocks(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

/** @param {string[]} lines @param {number} depth @returns {any[]} */
function blocks(lines, depth) {
  const shown = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (!line.trim()) {
      at += 1;
      continue;
    }
    const block = depth > DEEPEST ? null : (fence(lines, at) ?? single(line) ?? table(lines, at)
      ?? quote(lines, at, depth) ?? list(lines, at, depth));
    const { element, next } = block ?? paragraph(lines, at, depth);
    shown.push(element);
    at = next ?? at + 1;
  }
  return shown;
}

/** @typedef {{ element: any, next?: number } | null} Block `next`: the line after it. */

/** @param {string[]} lines @param {number} at @returns {Block} */
function fence(lines, at) {
  const opened = FENCE.exec(lines[at]);
  if (!opened) return null;
  let end = at + 1;
  while (end < lines.length && !lines[end].trimStart().startsWith(opened[1])) end += 1;
  const code = lines.slice(at + 1, end).join("\n");
  const name = opened[2] ? `Code, ${opened[2]}` : "Code";
  return { element: html`<pre tabindex="0" role="group" aria-label=${name}><code>${code}</code></pre>`, next: end + 1 };
}

/** @param {string} line @returns {Block} */
function single(line) {
  if (RULE.test(line)) return { element: html`<hr />` };
  const heading = HEADING.exec(line);
  if (!heading) return null;
  // Below the page's own headings, whatever the model thinks of its importance.
  return { element: html`<h3 class=${`level-${heading[1].length}`}>${inline(heading[2], 0)}</h3>` };
}

/** @param {string[]} lines @param {number} at @param {number} depth @returns {Block} */
function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  if (end === at) return null;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return { element: html`<blockquote>${blocks(inner, depth + 1)}</blockquote>`, next: end };
}

/** @param {string[]} lines @param {number} at @returns {Block} */
function table(lines, at) {
  if (!lines[at].includes("|") || !TABLE_RULE.test(lines[at + 1] ?? "") || !lines[at + 1].includes("-")) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const rows = lines.slice(at + 2, end).map(cells);
  const element = html`<div class="scrolls" tabindex="0" role="group" aria-label="Table"><table>
    <thead><tr>${cells(lines[at]).map((cell) => html`<th scope="col">${inline(cell, 0)}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${inline(cell, 0)}</td>`)}</tr>`)}</tbody>
  </table></div>`;
  return { element, next: end };
}

/** @param {string} line */
function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
}

/** @param {string[]} lines @param {number} at @param {number} depth @returns {Block} */
function list(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  if (!first) return null;
  const ordered = /\d/.test(first[2]);
  const indent = first[1].length;
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || item[1].length !== indent || /\d/.test(item[2]) !== ordered) break;
    const inner = [item[3]];
    end += 1;
    while (end < lines.length && belongs(lines, end, indent)) inner.push(lines[end++].slice(indent + 2));
    while (inner.length && !inner[inner.length - 1].trim()) inner.pop();
    items.push(html`<li>${tight(blocks(inner, depth + 1))}</li>`);
  }
  const start = ordered ? parseInt(first[2], 10) : undefined;
  return { element: ordered ? html`<ol start=${start}>${items}</ol>` : html`<ul>${items}</ul>`, next: end };
}

/**
 * Whether a line continues a list item: it is indented, or blank before one that is or before the next item.
 * @param {string[]} lines @param {number} at @param {number} indent
 */
function belongs(lines, at, indent) {
  const line = lines[at];
  if (line.trim()) return line.length - line.trimStart().length > indent;
  const next = lines[at + 1] ?? "";
  return next.trim() !== "" && (next.length - next.trimStart().length > indent || ITEM.exec(next)?.[1].length === indent);
}

/** An item of one paragraph is shown without its margins. @param {any[]} inner */
function tight(inner) {
  return inner[0]?.type === "p" ? [inner[0].props.children, ...inner.slice(1)] : inner;
}

/** @param {string[]} lines @param {number} at @param {number} depth */
function paragraph(lines, at, depth) {
  let end = at + 1;
  const starts = (/** @type {string} */ line) =>
    FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);
  while (end < lines.length && lines[end].trim() && (depth > DEEPEST || !starts(lines[end]))) end += 1;
  const text = lines.slice(at, end).map((line) => line.trim()).join("\n");
  return { element: html`<p>${inline(text, 0)}</p>`, next: end };
}

/** @type {[string, string][]} Longer marks first. */
const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];

/**
 * @param {string} text @param {number} depth
 * @returns {any[]} Strings and elements.
 */
function inline(text, depth) {
  /** @type {any[]} */
  const shown = [];
  const absent = new Set(); // Marks that close nowhere further on; so the whole stays linear.
  let plain = 0;
  let at = 0;
  while (at < text.length) {
    const piece = depth > DEEPEST ? null : pieceAt(text, at, depth, absent);
    if (piece === null) {
      at += 1;
      continue;
    }
    if (plain < at) shown.push(text.slice(plain, at));
    shown.push(piece.element);
    at = plain = piece.next;
  }
  if (plain < text.length) shown.push(text.slice(plain));
  return shown;
}

/**
 * @param {string} text @param {number} at @param {number} depth @param {Set<string>} absent
 * @returns {{ element: any, next: number } | null}
 */
function pieceAt(text, at, depth, absent) {
  switch (text[at]) {
    case "\\":
      return /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "") ? { element: text[at + 1], next: at + 2 } : null;
    case "\n":
      return { element: html`<br />`, next: at + 1 }; // Models mean the lines they write.
    case "`":
      return code(text, at, absent);
    case "!":
      return text[at + 1] === "[" ? link(text, at + 1, depth, "Image: ") : null;
    case "[":
      return link(text, at, depth, "");
    case "<":
    case "h":
      return address(text, at);
    default:
      return emphasis(text, at, depth, absent);
  }
}

/** @param {string} text @param {number} at @param {Set<string>} absent */
function code(text, at, absent) {
  const mark = /^`+/.exec(text.slice(at, at + 20))?.[0] ?? "`";
  const end = absent.has(mark) ? -1 : text.indexOf(mark, at + mark.length);
  if (end < 0) {
    absent.add(mark);
    return null;
  }
  return { element: html`<code>${text.slice(at + mark.length, end).trim()}</code>`, next: end + mark.length };
}

/** @param {string} text @param {number} at @param {number} depth @param {string} before */
function link(text, at, depth, before) {
  const label = text.slice(at, at + LONGEST_LABEL).indexOf("](");
  if (label < 0) return null;
  const from = at + label + 2;
  const length = addressLength(text.slice(from, from + LONGEST_ADDRESS));
  if (length < 0) return null;
  const target = text.slice(from, from + length).trim().split(/\s/)[0];
  const inner = inline(text.slice(at + 1, at + label), depth + 1);
  return { element: anchor(target, [before, ...inner]), next: from + length + 1 };
}

/** Up to the bracket that closes; an address may hold pairs of its own. @param {string} text */
function addressLength(text) {
  let open = 0;
  for (let at = 0; at < text.length && text[at] !== "\n"; at += 1) {
    if (text[at] === "(") open += 1;
    else if (text[at] === ")" && open-- === 0) return at;
  }
  return -1;
}

/** @param {string} text @param {number} at */
function address(text, at) {
  const found = /^(<?)(https?:\/\/[^\s<>"'`]+)(>?)/.exec(text.slice(at, at + LONGEST_ADDRESS));
  if (!found || (at > 0 && /\w/.test(text[at - 1]))) return null;
  const target = found[1] ? found[2] : found[2].replace(/[.,;:!?)\]]+$/, "");
  return { element: anchor(target, target), next: at + (found[1] ? found[0].length : target.length) };
}

/**
 * A link out, if its address is one that only opens a page; else its label alone.
 * @param {string} target @param {any} label
 */
function anchor(target, label) {
  if (!SAFE.test(target)) return html`<span class="unlinked">${label}</span>`;
  return html`<a href=${target} target="_blank" rel="noopener noreferrer nofollow">${label}</a>`;
}

/** @param {string} text @param {number} at @param {number} depth @param {Set<string>} absent */
function emphasis(text, at, depth, absent) {
  for (const [mark, element] of MARKS) {
    if (!text.startsWith(mark, at) || absent.has(mark)) continue;
    if (mark[0] === "_" && /\w/.test(text[at - 1] ?? " ")) continue;
    if (/\s/.test(text[at + mark.length] ?? " ")) continue;
    const end = closing(text, at + mark.length, mark);
    if (end < 0) {
      absent.add(mark);
      continue;
    }
    const inner = inline(text.slice(at + mark.length, end), depth + 1);
    return { element: html`<${element}>${inner}<//>`, next: end + mark.length };
  }
  return null;
}

/** @param {string} text @param {number} from @param {string} mark */
function closing(text, from, mark) {
  for (let end = text.indexOf(mark, from + 1); end >= 0; end = text.indexOf(mark, end + 1)) {
    if (/\s/.test(text[end - 1]) || text[end - 1] === "\\") continue;
    if (mark.length === 1 && (text[end + 1] === mark || text[end - 1] === mark)) continue;
    if (mark[0] === "_" && /\w/.test(text[end + mark.length] ?? " ")) continue;
    return end;
  }
  return -1;
}
