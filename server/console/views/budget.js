// @ts-check
import { html, useId, useState } from "../html.js";
import { decided } from "../reviews.js";

/** @type {Record<string, string>} */
const UNITS = {
  steps: "steps", model_calls: "model calls", tool_calls: "tool calls", tokens: "tokens", seconds: "seconds",
};

/**
 * A run that paused at its limit: go on with more, or stop here.
 * @param {{ review: import("../reviews.js").BudgetReview, disabled: boolean,
 *   onResume: (resume: Record<string, unknown>) => void }} props
 */
export function BudgetCard({ review, disabled, onResume }) {
  const id = useId();
  const { name, args, description } = review.action;
  const [dimension, asked] = Object.entries(args)[0] ?? ["steps", 1];
  const [amount, setAmount] = useState(String(asked));
  const granted = Number(amount);
  const valid = Number.isFinite(granted) && granted > 0 && (dimension === "seconds" || Number.isInteger(granted));
  const go = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (disabled || !valid) return;
    const edit = /** @type {const} */ ({ type: "edit", edited_action: { name, args: { [dimension]: granted } } });
    onResume(decided(review.id, [granted === asked ? { type: "approve" } : edit]));
  };
  return html`<section class="card" aria-labelledby=${id}>
    <h2 id=${id} tabindex="-1">Paused at its limit</h2>
    <p>${description}</p>
    <form onSubmit=${go}>
      <div class="field inline">
        <label for=${`${id}-amount`}>Continue with</label>
        <input id=${`${id}-amount`} type="number" min="1" step=${dimension === "seconds" ? "any" : "1"} required
          value=${amount} onInput=${(/** @type {any} */ event) => setAmount(event.target.value)} />
        <span>more ${UNITS[dimension] ?? dimension}</span>
      </div>
      <div class="actions">
        <button class="primary" disabled=${disabled || !valid}>Continue</button>
        <button type="button" disabled=${disabled}
          onClick=${() => onResume(decided(review.id, [{ type: "reject" }]))}>Stop here</button>
      </div>
    </form>
  </section>`;
}
