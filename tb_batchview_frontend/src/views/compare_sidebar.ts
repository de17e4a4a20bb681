// Run B in the sidebar, and the sentence that says what A is compared with.

import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import type { Chosen } from "../choice.js";
import { notesOf, type Other } from "../compare.js";
import { count, exact, figure, many } from "../format.js";
import type { Store } from "../state.js";
import { side } from "./compare_parts.js";
import { errorLabel, errorText } from "./error_words.js";
import { findRuns, picked, typed } from "./parts.js";

export { side } from "./compare_parts.js";

function rangeOfB(store: Store, { phase, start, stop }: Other): TemplateResult {
  const { ownB } = store.selection;
  const first = start ?? phase?.first_step ?? null;
  const last = stop === null ? (phase?.last_step ?? null) : stop - 1;
  const own = (change: { startB?: number | null; stopB?: number | null }): void => {
    const { startB, stopB } = { startB: start, stopB: stop, ...change };
    const crossed = startB !== null && stopB !== null && startB >= stopB;
    const kept = "startB" in change ? { startB, stopB: null } : { startB: null, stopB };
    store.select({ ownB: true, ...(crossed ? kept : { startB, stopB }) });
  };
  const setFirst = (event: Event): void => own({ startB: typed(event) });
  const setLast = (event: Event): void => {
    const value = typed(event);
    own({ stopB: value === null ? null : value + 1 });
  };
  return html`<div class="segments" role="group" aria-label="Batches of run B">
      <button type="button" aria-pressed=${!ownB} data-testid="range-b-same"
        @click=${() => store.select({ ownB: false, startB: null, stopB: null })}>batches as A</button>
      <button type="button" aria-pressed=${ownB} data-testid="range-b-own"
        @click=${() => store.select({ ownB: true, startB: start, stopB: stop })}>its own</button>
    </div>
    ${
      ownB
        ? html`<div class="span">
          <input inputmode="numeric" aria-label="first batch of run B" data-testid="range-b-first"
            .value=${live(first === null ? "" : String(first))} @change=${setFirst} />
          <span class="quiet">–</span>
          <input inputmode="numeric" aria-label="last batch of run B" data-testid="range-b-last"
            .value=${live(last === null ? "" : String(last))} @change=${setLast} />
        </div>`
        : nothing
    }`;
}

/** Choose run B, its phase, output and range; exchange the two; stop comparing. */
export function compareGroup(store: Store, chosen: Chosen): TemplateResult {
  const runs = store.runs.value?.runs ?? [];
  const { other } = store;
  const { runB } = store.selection;
  return html`<div class="group" data-testid="compare">
    <label class="label" for="run-b">Compare with ${other === null ? nothing : side("B")}</label>
    <select id="run-b" data-testid="run-b" @change=${(event: Event) => store.compareWith(picked(event))}>
      <option value="" .selected=${live(runB === "")}>nothing</option>
      ${other === null && runB !== "" ? html`<option value=${runB} .selected=${live(true)}>${runB} (not there)</option>` : nothing}
      ${findRuns(runs, store.runWords, runB).map(
        ({ name }) =>
          html`<option value=${name} .selected=${live(name === other?.run.name)}>${name}${name === chosen.run.name ? " (other batches)" : ""}</option>`,
      )}
    </select>
    ${
      other === null
        ? nothing
        : html`${
            other.run.phases.length < 2
              ? nothing
              : html`<div class="segments" role="group" aria-label="Phase of run B" data-testid="phase-b">${other.run.phases.map(
                  ({ name, batches }) =>
                    html`<button type="button" aria-pressed=${name === other.phase?.name} title=${`${name}: ${count(batches)} batches`}
                      @click=${() => store.select({ phaseB: name })}>${name}</button>`,
                )}</div>`
          }${
            other.run.outputs.length < 2
              ? nothing
              : html`<select aria-label="Output of run B" data-testid="output-b"
                @change=${(event: Event) => store.select({ outputB: picked(event) })}>${other.run.outputs.map(
                  ({ name, task }) =>
                    html`<option value=${name} .selected=${live(name === other.output?.name)}>${name} · ${task}</option>`,
                )}</select>`
          }
          ${rangeOfB(store, other)}
          <span class="small"><button type="button" class="link" data-testid="swap" @click=${() => store.swap()}>swap A and B</button> ·
            <button type="button" class="link" data-testid="clear-b" @click=${() => store.compareWith("")}>stop comparing</button></span>`
    }
  </div>`;
}

/** What B is, in the same words as A above it, and what to know of the comparison. */
export function comparedSentence(store: Store, chosen: Chosen): TemplateResult | typeof nothing {
  const { other, versus } = store;
  const { runB } = store.selection;
  if (runB === "") return nothing;
  if (other === null) {
    return html`<div class="banner" role="status" data-testid="missing-b"><span>The run “${runB}” to compare with is not in the log directory.</span>
      <button type="button" class="link" @click=${() => store.compareWith("")}>stop comparing</button></div>`;
  }
  const notes = notesOf(store.selection, chosen, other);
  const header = versus.timeline?.header ?? null;
  const figures =
    header === null
      ? (versus.error ?? (other.phase?.batches ? "…" : ""))
      : header.batches === 0
        ? html`<b>no batches in this range</b>; it has ${count(other.phase?.first_step)}–${count(other.phase?.last_step)}`
        : html`batches <b>${count(header.first_step)}–${count(header.last_step)}</b> · <b>${many(header.samples, "sample")}</b>${
            header.error_rate === null
              ? nothing
              : html` · ${errorLabel(other.output)} <b title=${exact(header.error_rate)}>${errorText(other.output, header.error_rate)}</b>`
          } · mean loss <b title=${exact(header.loss)}>${figure(header.loss)}</b>`;
  return html`<div class="sentence" data-testid="sentence-b"><span class="pair">${side("A")} <b>${chosen.run.name}</b> against ${side("B")}
    <b>${other.run.name}</b><span>${other.phase?.name} · ${figures}</span></span>${
      notes.length === 0
        ? nothing
        : html`<ul class="notes" data-testid="notes-b">${notes.map((note) => html`<li>${note}</li>`)}</ul>`
    }</div>`;
}
