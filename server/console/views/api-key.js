// @ts-check
import { html, useState } from "../html.js";
import { apiKey, setApiKey } from "../wire.js";

/** @param {{ onKey: () => void }} props */
export function ApiKey({ onKey }) {
  const [key, setKey] = useState("");
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    setApiKey(key.trim());
    onKey();
  };
  return html`<main class="alone">
    <h1>This server asks for an API key</h1>
    <p>The key stays in this tab and is forgotten when you close it.</p>
    ${apiKey() ? html`<p class="field-problem" role="alert">The server did not accept the key you gave.</p>` : null}
    <form onSubmit=${submit}>
      <label for="key">API key</label>
      <input id="key" type="password" autocomplete="off" required value=${key}
        onInput=${(/** @type {any} */ event) => setKey(event.target.value)} />
      <button class="primary">Use this key</button>
    </form>
  </main>`;
}
