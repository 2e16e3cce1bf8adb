// @ts-check
import { html, useLayoutEffect, useRef, useState } from "../html.js";

/**
 * Asks before what cannot be undone. Escape and Cancel change nothing.
 * @param {{ title: string, text: string, action: string, onConfirm: () => Promise<void>, onClose: () => void }} props
 */
export function Confirm({ title, text, action, onConfirm, onClose }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [busy, setBusy] = useState(false);
  useLayoutEffect(() => dialog.current?.showModal(), []);
  const confirm = async () => {
    if (busy) return;
    setBusy(true);
    await onConfirm();
    dialog.current?.close();
  };
  return html`<dialog ref=${dialog} aria-labelledby="confirm-title" aria-describedby="confirm-text" onClose=${onClose}>
    <h2 id="confirm-title">${title}</h2>
    <p id="confirm-text">${text}</p>
    <div class="actions">
      <button type="button" class="danger" disabled=${busy} onClick=${confirm}>${action}</button>
      <button type="button" onClick=${() => dialog.current?.close()}>Cancel</button>
    </div>
  </dialog>`;
}
