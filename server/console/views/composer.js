// @ts-check
import { html, useLayoutEffect, useRef } from "../html.js";

/**
 * Where a message is written. Enter sends, Shift+Enter starts a new line.
 * @param {{ text: string, onText: (text: string) => void, onSend: (text: string) => void, disabled: boolean,
 *   placeholder: string, takesFocus?: boolean }} props
 */
export function Composer({ text, onText, onSend, disabled, placeholder, takesFocus = false }) {
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useLayoutEffect(() => {
    if (takesFocus) field.current?.focus();
  }, []);
  const send = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!disabled && text.trim()) onSend(text.trim());
    field.current?.focus();
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  };
  return html`<form class="composer" onSubmit=${send}>
    <label class="unseen" for="message">Message</label>
    <textarea id="message" ref=${field} rows="1" value=${text} placeholder=${placeholder} enterkeyhint="send"
      aria-describedby="message-keys" onKeyDown=${key}
      onInput=${(/** @type {any} */ event) => onText(event.target.value)}></textarea>
    <button class="primary" disabled=${disabled}>Send</button>
    <p id="message-keys" class="keys">Enter sends · Shift+Enter new line</p>
  </form>`;
}
