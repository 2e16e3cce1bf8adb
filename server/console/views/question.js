// @ts-check
import { html, useId, useState } from "../html.js";
import { markdown } from "../markdown.js";
import { answered, readJson } from "../reviews.js";
import { JsonField } from "./json-field.js";
import { Value } from "./value.js";

/**
 * An interrupt in a graph's own words: any value is shown, any value can be the answer.
 * @param {{ review: import("../reviews.js").Question, disabled: boolean,
 *   onResume: (resume: Record<string, unknown>) => void }} props
 */
export function QuestionCard({ review, disabled, onResume }) {
  const id = useId();
  const [text, setText] = useState("");
  const [asJson, setAsJson] = useState(false);
  const { value: json, problem } = readJson(text);
  const ready = text.trim() !== "" && !(asJson && problem !== null);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (ready && !disabled) onResume(answered(review.id, asJson ? json : text.trim()));
  };
  return html`<section class="card" aria-labelledby=${id}>
    <h2 id=${id} tabindex="-1">The graph asks you</h2>
    ${typeof review.value === "string"
      ? html`<div class="prose">${markdown(review.value)}</div>`
      : html`<${Value} value=${review.value} />`}
    <form onSubmit=${submit}>
      ${asJson
        ? html`<${JsonField} label="Your answer, as JSON" text=${text} problem=${text.trim() ? problem : null}
            onText=${setText} />`
        : html`<div class="field"><label>Your answer
            <textarea rows="2" value=${text}
              onInput=${(/** @type {any} */ event) => setText(event.target.value)}></textarea></label></div>`}
      <label class="check"><input type="checkbox" checked=${asJson} onChange=${() => setAsJson(!asJson)} />
        The answer is JSON (true, 3, {…})</label>
      <div class="actions"><button class="primary" disabled=${disabled || !ready}>Answer</button></div>
    </form>
  </section>`;
}
