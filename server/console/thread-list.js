// @ts-check
/** The threads, newest first, a page at a time; read again while the page is looked at. */

import { problemOf } from "./problems.js";
import { Store } from "./store.js";
import { call, search } from "./wire.js";

const PAGE = 30;
const MOST = 1000; // What one search may ask for.
const EVERY_MS = 8000;
const SELECT = ["thread_id", "status", "metadata", "updated_at", "interrupts"];

/**
 * @typedef {object} State
 * @property {any[] | null} threads null until the first answer.
 * @property {number} total
 * @property {string} status Only threads of this status; "" for all.
 * @property {import("./problems.js").Problem | null} problem
 */

/** @extends {Store<State>} */
export class ThreadList extends Store {
  #wanted = PAGE;
  #asked = 0;

  constructor() {
    super({ threads: null, total: 0, status: "", problem: null });
  }

  /** Reads now and then as long as the page is visible. @returns {() => void} Ends it. */
  keepFresh() {
    const refresh = () => void (document.hidden || this.refresh());
    refresh();
    const timer = setInterval(refresh, EVERY_MS);
    document.addEventListener("visibilitychange", refresh);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", refresh);
    };
  }

  async refresh() {
    const asked = ++this.#asked;
    const { status } = this.state;
    try {
      const { items, total } = await search("threads/search", {
        limit: this.#wanted, sort_by: "updated_at", sort_order: "desc", select: SELECT,
        extract: { first: "values.messages[0].content" }, ...(status && { status }),
      });
      if (asked === this.#asked) this.set({ threads: items, total, problem: null });
    } catch (error) {
      if (asked === this.#asked) this.set({ problem: problemOf(error) });
    }
  }

  more() {
    this.#wanted = Math.min(this.#wanted + PAGE, MOST);
    return this.refresh();
  }

  /** @param {string} status */
  show(status) {
    this.#wanted = PAGE;
    this.set({ status });
    return this.refresh();
  }

  /** @param {string} threadId */
  async remove(threadId) {
    await call("DELETE", `threads/${threadId}`);
    await this.refresh();
  }
}
