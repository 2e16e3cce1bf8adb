// @ts-check
import { html, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { markdown } from "../markdown.js";
import { ToolCallLine } from "./tool-call.js";

const NEAR_PX = 80;

/**
 * The conversation along its line. It keeps to the end while the reader is at the end.
 * `pinned` is the question that waits, if any.
 * @param {{ entries: import("../transcript.js").Entry[], running: boolean, waiting: Set<string>, who: string,
 *   pinned: string | null, children: import("../html.js").Children }} props
 */
export function Transcript({ entries, running, waiting, who, pinned, children }) {
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  const [atEnd, setAtEnd] = useState(true);
  useLayoutEffect(() => {
    // A question to a person is read from its top.
    if (pinned) scroller.current?.querySelector(".card")?.scrollIntoView({ block: "start" });
  }, [pinned]);
  useLayoutEffect(() => {
    if (atEnd && !pinned && scroller.current) scroller.current.scrollTop = scroller.current.scrollHeight;
  });
  const scrolled = () => {
    const { scrollHeight, scrollTop, clientHeight } = /** @type {HTMLElement} */ (scroller.current);
    setAtEnd(scrollHeight - scrollTop - clientHeight < NEAR_PX);
  };
  return html`<div class="transcript">
    <div class="scroller" ref=${scroller} onScroll=${scrolled} tabindex="0" role="region" aria-label="Conversation">
      <div class="column"><ol class="line">
        ${entries.map((entry) => html`<${EntryItem} key=${entry.key} entry=${entry} running=${running}
          waiting=${waiting} who=${who} />`)}
      </ol>
      ${children}
      ${running ? html`<div class="tip" aria-hidden="true"></div>` : null}</div>
    </div>
    ${atEnd || pinned ? null : html`<button type="button" class="to-end" onClick=${() => setAtEnd(true)}>Latest ↓</button>`}
  </div>`;
}

/**
 * @param {{ entry: import("../transcript.js").Entry, running: boolean, waiting: Set<string>, who: string }} props
 */
function EntryItem({ entry, running, waiting, who }) {
  const { kind, text, calls, open } = entry;
  const shown = useMemo(() => (kind === "human" ? text : markdown(text)), [kind, text]);
  if (!text.trim() && !calls.length) return null;
  return html`<li class=${`entry ${kind}`}>
    <h2 class="unseen">${kind === "human" ? "You" : kind === "ai" ? who : "Note"}</h2>
    ${text.trim() ? html`<div class="prose" aria-busy=${open && running ? "true" : undefined}>${shown}</div>` : null}
    ${calls.map((call) => html`<${ToolCallLine} key=${call.id} call=${call} running=${running}
      waiting=${waiting.has(call.id)} />`)}
  </li>`;
}
