// Small pieces that several views are made of.

import { html, nothing, type TemplateResult } from "lit";
import { exact } from "../format.js";
import type { Store } from "../state.js";
import type { Run, Sample } from "../types.js";

export type OutcomeKind = "correct_confident" | "correct_unsure" | "wrong_unsure" | "wrong_confident";

/** A sample is called confident from here on; the plugin counts with the same number. */
export const CONFIDENT = 0.8;

export const OUTCOME_LABELS: Record<OutcomeKind, string> = {
  correct_confident: "correct, confident",
  correct_unsure: "correct, unsure",
  wrong_unsure: "wrong, unsure",
  wrong_confident: "wrong, confident",
};

export function outcomeOf({ target, predicted, confidence }: Sample): OutcomeKind | null {
  if (target === null || predicted === null) return null;
  const confident = (confidence ?? 0) >= CONFIDENT;
  if (target === predicted) return confident ? "correct_confident" : "correct_unsure";
  return confident ? "wrong_confident" : "wrong_unsure";
}

const clamp = (share: number): number => Math.min(1, Math.max(0, share));

/** A bar beside its number; `share` is from 0 to 1. */
export function bar(share: number | null, text: string, kind: string | null): TemplateResult {
  if (share === null || !Number.isFinite(share)) return html`${text}`;
  return html`<span class="bar"><i class=${kind ?? ""} .style=${`--share:${clamp(share)}`}></i><span>${text}</span></span>`;
}

/** A number with a bar behind it, grown from the right edge of the cell. */
export function cellBar(
  value: number | null,
  greatest: number | null | undefined,
  text: string,
): TemplateResult {
  const share = value !== null && greatest && Number.isFinite(value / greatest) ? clamp(value / greatest) : 0;
  return html`<span class="cellbar" .style=${`--share:${share * 0.98}`}><span>${text}</span></span>`;
}

/** A name of whose end is shown what there is room for: that often tells it from its neighbours. */
export const tail = (name: string): TemplateResult =>
  html`<span class="tail"><bdi dir="auto">${name}</bdi></span>`;

/** A number with all its digits on hover. */
export function number(value: number | null | undefined, text: string): TemplateResult {
  return html`<span title=${exact(value)}>${text}</span>`;
}

export function chip(
  label: string | TemplateResult,
  pressed: boolean,
  onClick: () => void,
  hook?: string,
): TemplateResult {
  return html`<button
    type="button"
    class="chip"
    aria-pressed=${pressed}
    data-testid=${hook ?? nothing}
    @click=${onClick}
  >${label}</button>`;
}

/** Arrow keys lead from one button of a group to the next, `before` the first one to what stands there. */
export function amongButtons(event: KeyboardEvent, before: HTMLElement | null = null): void {
  const group = event.currentTarget as HTMLElement;
  const by = /^Arrow(Right|Down)$/.test(event.key) ? 1 : /^Arrow(Left|Up)$/.test(event.key) ? -1 : 0;
  if (by === 0 || (event.target === before && !/Up|Down/.test(event.key))) return;
  const buttons = [...group.querySelectorAll("button")];
  const at = buttons.indexOf(event.target as HTMLButtonElement) + by;
  (buttons[at] ?? (at < 0 ? before : null))?.focus();
  event.preventDefault();
  event.stopPropagation();
}

export const picked = (event: Event): string => (event.target as HTMLSelectElement).value;

/** The runs whose names hold all of the words, and the one that is `kept` in any case. */
export function findRuns(runs: readonly Run[], words: string, kept = ""): Run[] {
  const wanted = words.toLowerCase().split(/\s+/);
  return runs.filter(
    ({ name }) => name === kept || wanted.every((word) => name.toLowerCase().includes(word)),
  );
}

/** The step typed into a box; `null` when it is empty or no number. */
export const typed = (event: Event): number | null => {
  const text = (event.target as HTMLInputElement).value.replace(/[\s,]/g, "");
  return /^\d{1,15}$/.test(text) ? Number(text) : null;
};

/** What stands where an answer would be, while there is none. */
export function waiting(error: string | null, loading: boolean, nothingText: string): TemplateResult {
  if (error !== null) return html`<p class="state error" role="alert">${error}</p>`;
  return html`<p class="state">${loading ? "Loading…" : nothingText}</p>`;
}

/** The label of a chip that takes its filter off; a long name is cut, its ✕ is not. */
export const removable = (words: string): TemplateResult => html`<span class="cut">${words}</span> ✕`;

/** A chip that takes a filter off. */
export const offChip = (words: string, off: () => void, hook: string): TemplateResult =>
  chip(removable(words), true, off, hook);

/** Chips for the class filters that are set, each to be taken off again. */
export function filterChips(store: Store, nameOf: (index: number | null) => string): TemplateResult {
  const { target, predicted } = store.selection;
  return html`${
    target === null
      ? nothing
      : chip(
          removable(`target ${nameOf(target)}`),
          true,
          () => store.select({ target: null }),
          "filter-target",
        )
  }${
    predicted === null
      ? nothing
      : chip(
          removable(`predicted ${nameOf(predicted)}`),
          true,
          () => store.select({ predicted: null }),
          "filter-predicted",
        )
  }`;
}
