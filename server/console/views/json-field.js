// @ts-check
import { html, useId } from "../html.js";

/**
 * JSON to edit, with what is wrong with it.
 * @param {{ label: string, text: string, problem: string | null, onText: (text: string) => void }} props
 */
export function JsonField({ label, text, problem, onText }) {
  const id = useId();
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <textarea id=${id} class="code" spellcheck="false" autocapitalize="off" rows="4" value=${text}
      aria-invalid=${problem ? "true" : undefined} aria-describedby=${problem ? `${id}-problem` : undefined}
      onInput=${(/** @type {any} */ event) => onText(event.target.value)}></textarea>
    <p id=${`${id}-problem`} class="field-problem" aria-live="polite">${problem}</p>
  </div>`;
}
