// @ts-check
/** Pending interrupts as questions to a person, and a person's answers as resume values. Pure. */

/** @typedef {{ id: string, value: any }} Interrupt */
/** @typedef {"approve" | "edit" | "reject" | "respond"} DecisionType */
/**
 * @typedef {{ name: string, args: Record<string, any>, description: string, allowed: DecisionType[] }} Action
 * @typedef {{ kind: "review", id: string, actions: Action[], dryRun: any,
 *   toolCallId: string | null }} CallReview
 * @typedef {{ kind: "budget", id: string, action: Action }} BudgetReview
 * @typedef {{ kind: "question", id: string, value: any }} Question
 */
/** @typedef {CallReview | BudgetReview | Question} Review */
/**
 * @typedef {{ type: "approve" } | { type: "edit", edited_action: { name: string, args: Record<string, any> } }
 *   | { type: "reject", message?: string } | { type: "respond", message: string }} Decision
 */

/** @type {DecisionType[]} */
const ALL = ["approve", "edit", "reject", "respond"];

/**
 * @param {Record<string, Interrupt[]> | Interrupt[] | null | undefined} interrupts By task, as a thread has
 *   them, or in a list, as a stream has them.
 * @returns {Review[]} Each pending interrupt once.
 */
export function reviewsOf(interrupts) {
  const all = Array.isArray(interrupts) ? interrupts : Object.values(interrupts ?? {}).flat();
  return [...new Map(all.map((interrupt) => [interrupt.id, interrupt])).values()].map(reviewOf);
}

/** @param {Interrupt} interrupt @returns {Review} */
function reviewOf({ id, value }) {
  const requests = Array.isArray(value?.action_requests) ? value.action_requests : [];
  if (!requests.length) return { kind: "question", id, value };
  const actions = requests.map((/** @type {any} */ request, /** @type {number} */ at) => {
    const configs = value.review_configs ?? [];
    const config = configs.find((/** @type {any} */ one) => one.action_name === request.name) ?? configs[at];
    return {
      name: String(request.name), args: request.args ?? {},
      description: request.description ?? "", allowed: config?.allowed_decisions ?? ALL,
    };
  });
  if (value.review?.kind === "budget") return { kind: "budget", id, action: actions[0] };
  return {
    kind: "review", id, actions,
    dryRun: value.review?.dry_run ?? null,
    toolCallId: value.review?.tool_call_id ?? null,
  };
}

/**
 * The resume value that answers one review and no other.
 * @param {string} interruptId @param {Decision[]} decisions
 */
export function decided(interruptId, decisions) {
  return { [interruptId]: { decisions } };
}

/** @param {string} interruptId @param {unknown} value */
export function answered(interruptId, value) {
  return { [interruptId]: value };
}

/**
 * Reads edited arguments; only an object can be the arguments of a call.
 * @param {string} text
 * @returns {{ value: Record<string, any>, problem: null } | { value: null, problem: string }}
 */
export function readArguments(text) {
  const read = readJson(text);
  if (read.problem !== null) return { value: null, problem: read.problem };
  if (typeof read.value !== "object" || read.value === null || Array.isArray(read.value)) {
    return { value: null, problem: "Arguments are a JSON object: { \"name\": value }." };
  }
  return { value: read.value, problem: null };
}

/**
 * @param {string} text
 * @returns {{ value: any, problem: null } | { value: null, problem: string }}
 */
export function readJson(text) {
  try {
    return { value: JSON.parse(text), problem: null };
  } catch (error) {
    const where = place(text, String(error));
    return { value: null, problem: `This is not valid JSON${where}. Check quotes, commas and brackets.` };
  }
}

/** @param {string} text @param {string} message */
function place(text, message) {
  const position = /position (\d+)/.exec(message);
  if (!position) return "";
  const before = text.slice(0, Number(position[1])).split("\n");
  return ` (line ${before.length}, column ${before[before.length - 1].length + 1})`;
}

/** What a review asks, in one sentence. @param {Review} review */
export function asks(review) {
  if (review.kind === "review") return `Waiting for your decision: ${review.actions.map((a) => a.name).join(", ")}.`;
  if (review.kind === "budget") return `Paused at its limit. ${review.action.description}`;
  return "Waiting for your answer.";
}
