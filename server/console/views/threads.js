// @ts-check
import { html, useRef, useState } from "../html.js";
import { problemOf } from "../problems.js";
import { href } from "../routes.js";
import { useStore } from "../store.js";
import { textOf } from "../transcript.js";
import { ago, standing, titleOf } from "../words.js";
import { Confirm } from "./confirm.js";
import { ProblemNote } from "./problem.js";

const SHOWN = [
  ["", "All"], ["interrupted", "Waiting or stopped"], ["busy", "Running"], ["error", "Failed"], ["idle", "Done"],
];

/**
 * @param {{ list: import("../thread-list.js").ThreadList, current: string | null, isPage: boolean }} props
 */
export function Threads({ list, current, isPage }) {
  const { threads, total, status, problem } = useStore(list);
  const [doomed, setDoomed] = useState(/** @type {any} */ (null));
  const [refused, setRefused] = useState(/** @type {import("../problems.js").Problem | null} */ (null));
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  const remove = async () => {
    try {
      await list.remove(doomed.thread_id);
      setRefused(null);
      if (doomed.thread_id === current) location.hash = href.new;
      else heading.current?.focus();
    } catch (error) {
      setRefused(problemOf(error));
    }
  };
  return html`<nav class="threads" aria-label="Threads">
    <div class="brand"><img src="icon.svg" alt="" width="24" height="24" />Interlock</div>
    <a class="button new" href=${href.new}>New thread</a>
    <div class="threads-head">
      <${isPage ? "h1" : "h2"} ref=${heading} tabindex="-1">Threads<//>
      <label class="unseen" for="shown">Show</label>
      <select id="shown" value=${status} onChange=${(/** @type {any} */ event) => list.show(event.target.value)}>
        ${SHOWN.map(([value, word]) => html`<option value=${value}>${word}</option>`)}
      </select>
    </div>
    ${threads && problem && !refused ? html`<p class="empty">This list may be out of date.</p>` : null}
    ${refused || (problem && !threads) ? html`<${ProblemNote} problem=${refused ?? problem} action="Try again"
      onAction=${() => list.refresh().then(() => setRefused(null))} />` : null}
    ${threads && !threads.length ? html`<p class="empty">${status ? "None right now." : "No threads yet."}</p>` : null}
    <ul class="thread-list">
      ${(threads ?? []).map((thread) => html`<${ThreadRow} key=${thread.thread_id} thread=${thread}
        isCurrent=${thread.thread_id === current} onDelete=${() => setDoomed(thread)} />`)}
    </ul>
    ${threads && threads.length < total ? html`<div class="more">
      <button type="button" onClick=${() => list.more()}>Show more</button>
      <p class="faint">${threads.length} of ${total}</p>
    </div>` : null}
    ${doomed ? html`<${Confirm} title="Delete this thread?" action="Delete"
      text=${`“${titleOf(doomed, textOf)}” and all it holds will be gone. A run under way is stopped.`}
      onConfirm=${remove} onClose=${() => setDoomed(null)} />` : null}
  </nav>`;
}

/** @param {{ thread: any, isCurrent: boolean, onDelete: () => void }} props */
function ThreadRow({ thread, isCurrent, onDelete }) {
  const title = titleOf(thread, textOf);
  const { kind, word } = standing(thread);
  return html`<li class=${isCurrent ? "current" : ""}>
    <a href=${href.thread(thread.thread_id)} aria-current=${isCurrent ? "page" : undefined}>
      <span class="thread-title">${title}</span>
      <span class="thread-facts"><span class=${`status ${kind}`}>${word}</span>
        <time datetime=${thread.updated_at}>${ago(thread.updated_at)}</time></span>
    </a>
    <button type="button" class="quiet" aria-label=${`Delete “${title}”`} onClick=${onDelete}>
      <span aria-hidden="true">×</span></button>
  </li>`;
}
