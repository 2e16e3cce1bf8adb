// @ts-check
/** One thread as the console knows it: loads it, runs it, follows what runs, and survives cuts and reloads. */

import { announce } from "./announcer.js";
import { failureOf, problemOf } from "./problems.js";
import { asks, reviewsOf } from "./reviews.js";
import { Store } from "./store.js";
import { isAi, textOf, withChunk } from "./transcript.js";
import { Refused, call, joinRun, startRun, uuid } from "./wire.js";

/**
 * @typedef {object} State
 * @property {"loading" | "ready" | "running" | "stopping" | "missing"} phase
 * @property {import("./wire.js").Connection} connection
 * @property {any} thread
 * @property {Record<string, any>} values
 * @property {Map<string, any>} partials Messages still streamed, by id; after a stop, those that were cut off.
 * @property {any} asked The question just sent, until the state holds it.
 * @property {string} draft What is written and not sent.
 * @property {boolean} stopped Whether the last run was stopped here.
 * @property {import("./reviews.js").Review[]} reviews
 * @property {string[]} next Nodes that wait to be run.
 * @property {import("./problems.js").Problem | null} problem
 * @property {string} notice What happened to the last answer of a person, if it is worth a word.
 */

/** @extends {Store<State>} */
export class Conversation extends Store {
  #closed = false;
  #reader = new AbortController();
  /** @type {string | null} */
  #runId = null;
  /** @type {Set<string>} Ids of the reviews that the current run answers. */
  #answered = new Set();
  #told = new Set();

  /** @param {string} threadId */
  constructor(threadId) {
    super({
      phase: "loading", connection: "live", thread: null, values: {}, partials: new Map(), asked: null, draft: "",
      stopped: false, reviews: [], next: [], problem: null, notice: "",
    });
    this.threadId = threadId;
  }

  /** Creates the thread of a first message; the id is ours, so a second try makes no second thread. */
  static async create(/** @type {string} */ threadId, /** @type {Record<string, unknown>} */ metadata) {
    const body = { thread_id: threadId, metadata, if_exists: "do_nothing" };
    const conversation = new Conversation(threadId);
    conversation.set({ phase: "ready", thread: await call("POST", "threads", body) });
    return conversation;
  }

  /** Reads the thread, and follows the run that is under way, if any. */
  async load() {
    this.set({ problem: null });
    try {
      await this.#settle();
    } catch (error) {
      if (this.#closed) return;
      const problem = problemOf(error);
      this.set({ phase: problem.kind === "gone" ? "missing" : "ready", problem });
      return;
    }
    this.#messages().forEach((message) => this.#told.add(message.id));
    if (this.state.phase === "running") await this.#followUnderway();
    else this.#forget();
  }

  /** Stops following; the run itself goes on. */
  close() {
    this.#closed = true;
    this.#reader.abort();
  }

  /** @param {string} text */
  ask(text) {
    if (this.state.phase !== "ready") return;
    const message = { type: "human", content: text, id: uuid() };
    this.set({ asked: message, draft: "" });
    this.#run({ input: { messages: [message] } });
  }

  /** @param {Record<string, unknown> | null} input null: on from the last checkpoint. */
  start(input) {
    this.#run({ input });
  }

  /** @param {Record<string, unknown>} resume Answers, by interrupt id. */
  resume(resume) {
    this.#run({ command: { resume } });
  }

  stop() {
    if (this.state.phase !== "running") return;
    this.set({ phase: "stopping", stopped: true });
    if (this.#runId) this.#cancel(this.#runId);
    else if (this.state.connection === "cut") this.#reader.abort();
  }

  /** @param {string} runId */
  async #cancel(runId) {
    try {
      await call("POST", `threads/${this.threadId}/runs/${runId}/cancel?wait=0&action=interrupt`);
      announce("Stopped.");
    } catch (error) {
      // 404: it ended by itself in the meantime, and its stream says so.
      if (error instanceof Refused && error.status === 404) return;
      this.set({ phase: "running", stopped: false, problem: problemOf(error) });
    }
  }

  /** @param {{ input?: unknown, command?: { resume: Record<string, unknown> } }} what */
  async #run(what) {
    if (this.state.phase !== "ready") return;
    this.set({ phase: "running", partials: new Map(), stopped: false, problem: null, notice: "" });
    this.#answered = new Set(Object.keys(what.command?.resume ?? {}));
    const request = {
      assistant_id: this.state.thread.metadata.assistant_id ?? this.state.thread.metadata.graph_id,
      stream_mode: ["values", "messages-tuple"], stream_resumable: true, on_disconnect: "continue",
      multitask_strategy: "reject", ...what,
    };
    const started = (/** @type {string} */ runId) => {
      this.#remember(runId);
      if (this.state.phase === "stopping") this.#cancel(runId);
    };
    await this.#follow(startRun(this.threadId, request, { ...this.#reading(), started }));
  }

  async #followUnderway() {
    try {
      const runId = this.#remembered() ?? (await this.#oldestInflight());
      if (runId) {
        this.#remember(runId);
        await this.#follow(joinRun(this.threadId, runId, this.#reading()));
      } else await this.#end(); // It ended between our two questions.
    } catch (error) {
      if (!this.#closed) this.set({ phase: "ready", problem: problemOf(error) });
    }
  }

  async #oldestInflight() {
    const path = `threads/${this.threadId}/runs?limit=100&select=run_id&status=`;
    const running = await call("GET", `${path}running`);
    const pending = running.length ? [] : await call("GET", `${path}pending`);
    return [...running, ...pending].at(-1)?.run_id ?? null;
  }

  #reading() {
    const connection = (/** @type {import("./wire.js").Connection} */ state) => {
      if (state !== this.state.connection) announce(state === "cut" ? "Connection lost. Reconnecting." : "Reconnected.");
      this.set({ connection: state });
    };
    this.#reader = new AbortController();
    return { signal: this.#reader.signal, connection };
  }

  /** @param {AsyncGenerator<import("./wire.js").Frame>} frames */
  async #follow(frames) {
    const { signal } = this.#reader;
    try {
      for await (const frame of frames) this.#take(frame);
    } catch (error) {
      if (this.#closed) return;
      if (this.#answered.size && error instanceof Refused && error.status === 409) {
        this.set({ notice: `This was already decided: ${error.message}.` });
        announce("This was already decided.");
      } else if (!signal.aborted) this.set({ problem: problemOf(error) });
    }
    await this.#end();
  }

  /** @param {import("./wire.js").Frame} frame */
  #take({ event, data }) {
    if (event === "values") {
      const { __interrupt__: interrupts, ...values } = data;
      const unanswered = this.state.reviews.filter((review) => !this.#answered.has(review.id));
      this.set({ values, reviews: interrupts ? reviewsOf(interrupts) : unanswered });
      this.#tell();
    } else if (event === "messages") {
      this.#chunk(data[0]);
    } else if (event === "metadata" && data.attempt > 1) {
      this.set({ partials: new Map() }); // The step runs again and says its words again.
    } else if (event === "error" && data.error !== "HTTPException") {
      this.set({ problem: failureOf(data) }); // The other error: the run is gone, and so is what it wrote.
    }
  }

  /** @param {any} chunk */
  #chunk(chunk) {
    if (!isAi(chunk) && chunk.type !== "tool") return;
    const partials = new Map(this.state.partials);
    partials.set(chunk.id, withChunk(partials.get(chunk.id), chunk));
    this.set({ partials });
  }

  /** The run is over, one way or another: what the server holds is what counts now. */
  async #end() {
    this.#forget();
    try {
      await this.#settle();
    } catch (error) {
      if (this.#closed) return;
      const problem = problemOf(error);
      this.set({ phase: problem.kind === "gone" ? "missing" : "ready", problem });
      this.#giveBack();
      return;
    }
    this.#tell();
    this.state.reviews.forEach((review) => announce(asks(review)));
    if (this.state.problem) announce(`${this.state.problem.title}. ${this.state.problem.advice}`);
    if (this.state.phase === "running") await this.#followUnderway();
    else this.#giveBack();
  }

  async #settle() {
    const path = `threads/${this.threadId}`;
    const [thread, state] = await Promise.all([call("GET", path), call("GET", `${path}/state`)]);
    const failed = thread.status === "error" && thread.error ? failureOf(thread.error) : null;
    this.set({
      thread, values: state.values, next: state.next, connection: "live",
      phase: thread.status === "busy" ? "running" : "ready",
      partials: this.state.stopped ? this.state.partials : new Map(),
      reviews: thread.status === "interrupted" ? reviewsOf(thread.interrupts) : [],
      problem: this.state.problem ?? failed,
    });
  }

  /** A question that reached no state goes back to where it was written. */
  #giveBack() {
    const { asked, draft, problem, stopped } = this.state;
    if (!asked) return;
    const kept = this.#messages().some((message) => message.id === asked.id);
    const lost = !kept && (problem !== null || stopped) && draft === "";
    this.set({ asked: null, draft: lost ? asked.content : draft });
  }

  /** Says each finished message once. */
  #tell() {
    for (const message of this.#messages()) {
      if (this.#told.has(message.id)) continue;
      this.#told.add(message.id);
      if (!isAi(message)) continue;
      const calls = (message.tool_calls ?? []).map((/** @type {any} */ tool) => `Calls ${tool.name}.`);
      announce([textOf(message.content), ...calls].join(" "));
    }
  }

  /** @returns {any[]} */
  #messages() {
    return Array.isArray(this.state.values.messages) ? this.state.values.messages : [];
  }

  // The run under way is remembered for a reload of this tab; without it the thread's runs tell.

  /** @param {string} runId */
  #remember(runId) {
    this.#runId = runId;
    sessionStorage.setItem(`interlock.run.${this.threadId}`, runId);
  }

  #remembered() {
    return sessionStorage.getItem(`interlock.run.${this.threadId}`);
  }

  #forget() {
    this.#runId = null;
    sessionStorage.removeItem(`interlock.run.${this.threadId}`);
  }
}
