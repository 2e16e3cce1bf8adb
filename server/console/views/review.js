// @ts-check
import { html, useId, useState } from "../html.js";
import { decided } from "../reviews.js";
import { Action } from "./action.js";

/** @typedef {import("../reviews.js").Decision} Decision */

/**
 * Calls that wait for a person. One call is decided at once; several are sent together, in their order.
 * @param {{ review: import("../reviews.js").CallReview, disabled: boolean,
 *   onResume: (resume: Record<string, unknown>) => void }} props
 */
export function ReviewCard({ review, disabled, onResume }) {
  const id = useId();
  const [decisions, setDecisions] = useState(/** @type {(Decision | null)[]} */ (review.actions.map(() => null)));
  const single = review.actions.length === 1;
  const send = (/** @type {(Decision | null)[]} */ all) =>
    onResume(decided(review.id, /** @type {Decision[]} */ (all)));
  const take = (/** @type {number} */ at, /** @type {Decision | null} */ decision) => {
    const all = decisions.map((one, position) => (position === at ? decision : one));
    if (single && decision) send(all);
    else setDecisions(all);
  };
  return html`<section class="card" aria-labelledby=${id}>
    <h2 id=${id} tabindex="-1">${single ? "Your decision is needed" : `${review.actions.length} calls need your decision`}</h2>
    ${review.actions.map((action, at) => html`<${Action} key=${at} action=${action} dryRun=${review.dryRun}
      decision=${decisions[at]} disabled=${disabled}
      onDecide=${(/** @type {Decision | null} */ decision) => take(at, decision)} />`)}
    ${single ? null : html`<button type="button" class="primary" disabled=${disabled || decisions.includes(null)}
      onClick=${() => send(decisions)}>Send all decisions</button>`}
  </section>`;
}
