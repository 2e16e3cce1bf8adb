// @ts-check
import { html, useEffect, useLayoutEffect, useMemo, useRef } from "../html.js";
import { href } from "../routes.js";
import { useStore } from "../store.js";
import { entries, textOf } from "../transcript.js";
import { shortened, standing, titleOf } from "../words.js";
import { Ask } from "./ask.js";
import { BudgetCard } from "./budget.js";
import { ProblemNote } from "./problem.js";
import { QuestionCard } from "./question.js";
import { ReviewCard } from "./review.js";
import { Transcript } from "./transcript.js";
import { Value } from "./value.js";

/** @typedef {import("../conversation.js").Conversation} Conversation */

const CARDS = { review: ReviewCard, budget: BudgetCard, question: QuestionCard };

/** @param {{ conversation: Conversation, list: import("../thread-list.js").ThreadList }} props */
export function Thread({ conversation, list }) {
  const state = useStore(conversation);
  const { phase, thread, values, partials, asked, reviews, problem, notice } = state;
  const running = phase === "running" || phase === "stopping";
  const messages = Array.isArray(values?.messages) ? values.messages : [];
  const shown = useMemo(() => entries(messages, partials, asked), [messages, partials, asked]);
  const waiting = useMemo(() => callsUnder(reviews, messages), [reviews, messages]);
  const title = thread ? titleOf({ ...thread, extracted: { first: messages[0]?.content } }, textOf) : "";
  const stands = standing(running ? { status: "busy" } : (thread ?? { status: "idle" }));
  useEffect(() => void (thread && list.refresh()), [phase === "ready", thread?.updated_at]);
  useEffect(() => void (document.title = title ? `${title} · Interlock` : "Interlock"), [title]);
  useEscape(() => conversation.stop());
  useKeptFocus();

  if (phase === "missing") return html`<${Missing} />`;
  return html`
    <header class="thread-head">
      <p class="back"><a href=${href.threads}>Threads</a></p>
      <h1 tabindex="-1">${title || "Loading…"}</h1>
      ${thread ? html`<p class="thread-facts"><span class=${`status ${stands.kind}`}>${stands.word}</span>
        <span>${thread.metadata?.graph_id}</span></p>` : null}
    </header>
    <${Transcript} entries=${shown} running=${running} waiting=${waiting} who=${thread?.metadata?.graph_id ?? "Assistant"}
      pinned=${reviews[0]?.id ?? null}>
      <${OtherValues} values=${values} alone=${!messages.length && !running} />
      ${notice ? html`<p class="note">${notice}</p>` : null}
      ${problem ? html`<${ProblemNote} problem=${problem} ...${remedy(conversation, problem)} />` : null}
      ${reviews.map((review) => html`<${CARDS[review.kind]} key=${review.id} review=${review} disabled=${running}
        onResume=${(/** @type {Record<string, unknown>} */ resume) => conversation.resume(resume)} />`)}
      <${Stopped} conversation=${conversation} />
    <//>
    <footer>
      <${Progress} conversation=${conversation} />
      ${footing(conversation, running)}
    </footer>`;
}

/** @param {Conversation} conversation @param {boolean} running */
function footing(conversation, running) {
  const { thread, reviews, draft, asked, phase } = conversation.state;
  if (reviews.length) return running ? null : html`<p class="faint">Answer above to go on.</p>`;
  if (!thread?.metadata?.assistant_id) return null;
  return html`<${Ask} assistantId=${thread.metadata.assistant_id} text=${draft} disabled=${phase !== "ready"}
    placeholder="Reply" takesFocus=${asked !== null}
    onText=${(/** @type {string} */ text) => conversation.set({ draft: text })}
    onAsk=${(/** @type {string} */ text) => conversation.ask(text)}
    onRun=${(/** @type {Record<string, unknown>} */ input) => conversation.start(input)} />`;
}

/**
 * Ids of the tool calls that the reviews are about.
 * @param {import("../reviews.js").Review[]} reviews @param {any[]} messages
 */
function callsUnder(reviews, messages) {
  const ids = new Set();
  for (const review of reviews) {
    if (review.kind !== "review") continue;
    if (review.toolCallId) ids.add(review.toolCallId);
    else messages.at(-1)?.tool_calls?.forEach((/** @type {any} */ call) => ids.add(call.id));
  }
  return ids;
}

/** @param {Conversation} conversation @param {import("../problems.js").Problem} problem */
function remedy(conversation, problem) {
  const { thread, next } = conversation.state;
  if (!thread) return { action: "Try again", onAction: () => conversation.load() };
  if (problem.kind !== "again" || !next.length) return {};
  return { action: "Run the last step again", onAction: () => conversation.start(null) };
}

/**
 * What a state holds besides its messages; for a graph that does not talk, its answer.
 * @param {{ values: Record<string, any>, alone: boolean }} props
 */
function OtherValues({ values, alone }) {
  const { messages: _, ...others } = values ?? {};
  if (!Object.keys(others).length) return null;
  return html`<details class="state" open=${alone}><summary>State</summary><${Value} value=${others} /></details>`;
}

/** @param {{ conversation: Conversation }} props */
function Stopped({ conversation }) {
  const { phase, next, reviews, problem, stopped, partials } = useStore(conversation);
  if (phase !== "ready" || !next.length || reviews.length || problem) return null;
  return html`<section class="note" aria-label="Stopped">
    <p class="note-title">Stopped before ${next.map(shortened).join(", ")}</p>
    ${stopped && partials.size ? html`<p>What was being written is not kept in the thread.</p>` : null}
    <button type="button" onClick=${() => conversation.start(null)}>Continue</button>
  </section>`;
}

/** @param {{ conversation: Conversation }} props */
function Progress({ conversation }) {
  const { phase, connection } = useStore(conversation);
  if (phase !== "running" && phase !== "stopping") return null;
  const word = phase === "stopping" ? "Stopping…" : connection === "cut" ? "Connection lost. Reconnecting…" : "Working…";
  return html`<div class="progress">
    <p>${word}</p>
    <button type="button" disabled=${phase === "stopping"} aria-keyshortcuts="Escape"
      onClick=${() => conversation.stop()}>Stop</button>
  </div>`;
}

function Missing() {
  return html`<div class="opening">
    <h1 tabindex="-1">This thread does not exist</h1>
    <p>It may have been deleted. <a href=${href.new}>Start a new thread</a> or choose another.</p>
  </div>`;
}

/** When what had the focus is gone, it goes to the question that waits, or stays in the conversation. */
function useKeptFocus() {
  const last = useRef(/** @type {Element | null} */ (null));
  useEffect(() => {
    const moved = (/** @type {FocusEvent} */ event) => void (last.current = /** @type {Element} */ (event.target));
    addEventListener("focusin", moved);
    return () => removeEventListener("focusin", moved);
  }, []);
  useLayoutEffect(() => {
    if (document.activeElement !== document.body || !last.current || last.current.isConnected) return;
    const next = document.querySelector(".card h2") ?? document.querySelector(".scroller");
    /** @type {HTMLElement | null} */ (next)?.focus();
  });
}

/** @param {() => void} act */
function useEscape(act) {
  useEffect(() => {
    const pressed = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open]")) act();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}
