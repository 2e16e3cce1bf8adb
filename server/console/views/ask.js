// @ts-check
import { inputOf } from "../assistants.js";
import { html, useEffect, useState } from "../html.js";
import { problemOf } from "../problems.js";
import { readArguments } from "../reviews.js";
import { Composer } from "./composer.js";
import { JsonField } from "./json-field.js";
import { ProblemNote } from "./problem.js";

/**
 * What an assistant is given next: a message if it talks, else its input as JSON.
 * @param {{ assistantId: string, text: string, disabled: boolean, placeholder: string, takesFocus?: boolean,
 *   onText: (text: string) => void, onAsk: (text: string) => void,
 *   onRun: (input: Record<string, unknown>) => void }} props
 */
export function Ask({ assistantId, text, disabled, placeholder, takesFocus, onText, onAsk, onRun }) {
  const [input, setInput] = useState(/** @type {import("../assistants.js").Input | null} */ (null));
  const [problem, setProblem] = useState(/** @type {import("../problems.js").Problem | null} */ (null));
  useEffect(() => {
    let current = true;
    inputOf(assistantId).then(
      (read) => void (current && (setInput(read), setProblem(null))),
      (error) => void (current && setProblem(problemOf(error))),
    );
    return () => void (current = false);
  }, [assistantId]);
  if (problem) return html`<${ProblemNote} problem=${problem} />`;
  if (!input) return null;
  return input.talks
    ? html`<${Composer} text=${text} onText=${onText} onSend=${onAsk} disabled=${disabled} takesFocus=${takesFocus}
        placeholder=${placeholder} />`
    : html`<${InputForm} key=${assistantId} example=${input.example} disabled=${disabled} onRun=${onRun} />`;
}

/**
 * @param {{ example: Record<string, unknown>, disabled: boolean,
 *   onRun: (input: Record<string, unknown>) => void }} props
 */
function InputForm({ example, disabled, onRun }) {
  const [text, setText] = useState(() => JSON.stringify(example, null, 2));
  const { value, problem } = readArguments(text);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (value && !disabled) onRun(value);
  };
  return html`<form onSubmit=${submit}>
    <${JsonField} label="Input, as JSON" text=${text} problem=${problem} onText=${setText} />
    <div class="actions"><button class="primary" disabled=${disabled || problem !== null}>Run</button></div>
  </form>`;
}
