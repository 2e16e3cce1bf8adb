// @ts-check
import { allAssistants } from "../assistants.js";
import { html, useEffect, useState } from "../html.js";
import { problemOf } from "../problems.js";
import { href } from "../routes.js";
import { shortened } from "../words.js";
import { Ask } from "./ask.js";
import { ProblemNote } from "./problem.js";

/** @typedef {import("../conversation.js").Conversation} Conversation */
/** @typedef {(metadata: Record<string, unknown>, first: (made: Conversation) => void) => Promise<void>} Begin */

const CHOSEN = "interlock.assistant";

/**
 * Whom to ask, and the first message; the thread is made when it is sent.
 * @param {{ begin: Begin }} props
 */
export function NewThread({ begin }) {
  const [assistants, setAssistants] = useState(/** @type {any[] | null} */ (null));
  const [chosen, setChosen] = useState(sessionStorage.getItem(CHOSEN) ?? "");
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {import("../problems.js").Problem | null} */ (null));
  const assistant = assistants?.find((one) => one.assistant_id === chosen) ?? assistants?.[0];

  const load = () => {
    setProblem(null);
    allAssistants().then(setAssistants, (error) => setProblem(problemOf(error)));
  };
  useEffect(load, []);
  useEffect(() => void (document.title = "New thread · Interlock"), []);

  const choose = (/** @type {string} */ id) => {
    sessionStorage.setItem(CHOSEN, id);
    setChosen(id);
  };
  const start = async (/** @type {string} */ title, /** @type {(made: Conversation) => void} */ first) => {
    if (busy || !assistant) return;
    setBusy(true);
    setProblem(null);
    const { assistant_id, graph_id } = assistant;
    try {
      await begin({ assistant_id, graph_id, title: shortened(title) }, first);
    } catch (error) {
      setProblem(problemOf(error));
      setBusy(false);
    }
  };

  return html`<div class="opening">
    <p class="back"><a href=${href.threads}>Threads</a></p>
    <h1 tabindex="-1">What shall we work on?</h1>
    ${assistants && !assistants.length ? html`<p>No graph is served yet. Name one in <code>langgraph.json</code> and
      start again.</p>` : null}
    ${assistant ? html`
      <div class="field">
        <label for="assistant">Assistant</label>
        <select id="assistant" value=${assistant.assistant_id} aria-describedby="assistant-about"
          onChange=${(/** @type {any} */ event) => choose(event.target.value)}>
          ${assistants?.map((one) => html`<option value=${one.assistant_id}>${one.name}</option>`)}
        </select>
        <p id="assistant-about" class="faint">${assistant.description ?? `Runs the graph “${assistant.graph_id}”.`}</p>
      </div>
      <${Ask} assistantId=${assistant.assistant_id} text=${text} onText=${setText} disabled=${busy}
        placeholder="Ask a question" onAsk=${(/** @type {string} */ asked) => start(asked, (made) => made.ask(asked))}
        onRun=${(/** @type {any} */ input) => start(assistant.name, (made) => made.start(input))} />` : null}
    ${problem ? html`<${ProblemNote} problem=${problem} action=${assistants ? undefined : "Try again"}
      onAction=${load} />` : null}
  </div>`;
}
