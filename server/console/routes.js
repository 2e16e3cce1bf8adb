// @ts-check
/** The views' addresses, all behind `#`: the server knows one page. */

/** @typedef {{ name: "new" | "threads" | "thread", threadId: string | null }} Route */

export const href = {
  new: "#/",
  threads: "#/threads",
  /** @param {string} threadId */
  thread: (threadId) => `#/threads/${threadId}`,
};

/** @returns {Route} */
export function here() {
  const [, place, threadId] = location.hash.split("/");
  if (place !== "threads") return { name: "new", threadId: null };
  return /^[0-9a-f-]{36}$/i.test(threadId ?? "")
    ? { name: "thread", threadId }
    : { name: "threads", threadId: null };
}
