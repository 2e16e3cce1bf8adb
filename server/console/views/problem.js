// @ts-check
import { html } from "../html.js";

/**
 * @param {{ problem: import("../problems.js").Problem, action?: string, onAction?: () => void }} props
 */
export function ProblemNote({ problem, action, onAction }) {
  return html`<section class="note failed" aria-label=${problem.title}>
    <p class="note-title">${problem.title}</p>
    ${problem.detail ? html`<p class="note-detail">${problem.detail}</p>` : null}
    <p>${problem.advice}</p>
    ${action ? html`<button type="button" onClick=${onAction}>${action}</button>` : null}
  </section>`;
}
