// @ts-check
import { html, useLayoutEffect, useRef, useState } from "../html.js";
import { markdown } from "../markdown.js";
import { readArguments } from "../reviews.js";
import { JsonField } from "./json-field.js";
import { Value } from "./value.js";

/** @typedef {import("../reviews.js").Decision} Decision */
/** @typedef {"look" | "edit" | "reject" | "respond"} Mode */

/** @type {Record<Decision["type"], string>} */
const DECIDED = { approve: "Approved.", edit: "Approved with changes.", reject: "Rejected.", respond: "Answered." };

/**
 * One call: what it would do, and the ways to decide about it.
 * @param {{ action: import("../reviews.js").Action, dryRun: any, decision: Decision | null, disabled: boolean,
 *   onDecide: (decision: Decision | null) => void }} props
 */
export function Action({ action, dryRun, decision, disabled, onDecide }) {
  const [mode, setMode] = useState(/** @type {Mode} */ ("look"));
  const [text, setText] = useState("");
  const [sent, setSent] = useState(/** @type {Decision["type"] | null} */ (null));
  const panel = useRef(/** @type {HTMLElement | null} */ (null));
  const moved = useRef(false);
  useLayoutEffect(() => {
    // The focus follows into the form that opened, and back; not when the card first appears.
    if (moved.current) /** @type {HTMLElement} */ (panel.current?.querySelector("textarea, button"))?.focus();
    moved.current = true;
  }, [mode]);
  const open = (/** @type {Mode} */ next, initial = "") => {
    setText(initial);
    setMode(next);
  };
  const decide = (/** @type {Decision} */ made) => {
    if (disabled) return;
    setSent(made.type);
    onDecide(made);
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || mode === "look") return;
    event.stopPropagation();
    setMode("look");
  };
  const may = (/** @type {Decision["type"]} */ type) => action.allowed.includes(type);
  return html`<div class="action" onKeyDown=${key}>
    <h3><code>${action.name}</code></h3>
    ${action.description ? html`<div class="prose">${markdown(action.description)}</div>` : null}
    ${mode === "edit" ? null : html`<h4>Arguments</h4><${Value} value=${action.args} />`}
    ${dryRun === null ? null : html`<div class="preview"><h4>What it would do</h4><${Value} value=${dryRun} /></div>`}
    <div ref=${panel}>${form()}</div>
  </div>`;

  function form() {
    if (decision) {
      return html`<div class="actions"><p>${DECIDED[decision.type]}</p>
        <button type="button" disabled=${disabled} onClick=${() => onDecide(null)}>Change</button></div>`;
    }
    const back = () => setMode("look");
    const props = { text, disabled, back, onText: setText };
    switch (mode) {
      case "edit":
        return html`<${EditForm} ...${props} onDone=${(/** @type {Record<string, any>} */ args) =>
          decide({ type: "edit", edited_action: { name: action.name, args } })} />`;
      case "reject":
        return html`<${TextForm} ...${props} label="Reason (the agent reads it)" action="Reject" tone="danger"
          onDone=${() => decide(text.trim() ? { type: "reject", message: text.trim() } : { type: "reject" })} />`;
      case "respond":
        return html`<${TextForm} ...${props} label="Your answer, in place of the tool's result" action="Send answer"
          required tone="primary" onDone=${() => decide({ type: "respond", message: text.trim() })} />`;
      default:
        return html`<div class="actions" aria-busy=${disabled && sent ? "true" : undefined}>
          ${may("approve") ? html`<button type="button" class="primary" disabled=${disabled}
            onClick=${() => decide({ type: "approve" })}>Approve</button>` : null}
          ${may("edit") ? html`<button type="button" disabled=${disabled}
            onClick=${() => open("edit", JSON.stringify(action.args, null, 2))}>Edit…</button>` : null}
          ${may("reject") ? html`<button type="button" disabled=${disabled}
            onClick=${() => open("reject")}>Reject…</button>` : null}
          ${may("respond") ? html`<button type="button" disabled=${disabled}
            onClick=${() => open("respond")}>Answer instead…</button>` : null}
        </div>`;
    }
  }
}

/**
 * @param {{ text: string, disabled: boolean, back: () => void, onText: (text: string) => void,
 *   onDone: (args: Record<string, any>) => void }} props
 */
function EditForm({ text, disabled, back, onText, onDone }) {
  const { value, problem } = readArguments(text);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (value) onDone(value);
  };
  return html`<form onSubmit=${submit}>
    <${JsonField} label="Arguments, as JSON" text=${text} problem=${problem} onText=${onText} />
    <div class="actions">
      <button class="primary" disabled=${disabled || problem !== null}>Approve with these arguments</button>
      <button type="button" onClick=${back}>Back</button>
    </div>
  </form>`;
}

/**
 * @param {{ label: string, action: string, tone: string, text: string, disabled: boolean, required?: boolean,
 *   back: () => void, onText: (text: string) => void, onDone: () => void }} props
 */
function TextForm({ label, action, tone, text, disabled, required = false, back, onText, onDone }) {
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!required || text.trim()) onDone();
  };
  return html`<form onSubmit=${submit}>
    <div class="field"><label>${label}
      <textarea rows="2" required=${required} value=${text}
        onInput=${(/** @type {any} */ event) => onText(event.target.value)}></textarea></label></div>
    <div class="actions">
      <button class=${tone} disabled=${disabled}>${action}</button>
      <button type="button" onClick=${back}>Back</button>
    </div>
  </form>`;
}
