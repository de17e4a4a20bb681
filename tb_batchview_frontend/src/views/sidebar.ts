// The sidebar: what is shown (run, phase, output, range, class), how it came out, and whether it is live.

import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import type { Chosen } from "../choice.js";
import { ago, bytesOf, className, count, many, progress } from "../format.js";
import type { Store } from "../state.js";
import type { Run } from "../types.js";
import { compareGroup, side } from "./compare_sidebar.js";
import { doctorButton } from "./doctor.js";
import {
  amongButtons,
  findRuns,
  OUTCOME_LABELS,
  type OutcomeKind,
  picked,
  removable,
  typed,
} from "./parts.js";

const MOST_MATCHES = 50;
/** So many runs are filtered rather than looked through. */
const MANY_RUNS = 10;

/** Tell of a class whether its name holds the words or its number is one; without words every class is meant. */
export function classMatches(names: readonly string[] | null, words: string): (index: number) => boolean {
  const wanted = words.trim().toLowerCase();
  if (wanted === "") return () => true;
  return (index) => className(names, index).toLowerCase().includes(wanted) || String(index) === wanted;
}

/** Classes whose name or number holds the words, those that begin with them first. */
export function findClasses(names: readonly string[] | null, classes: number, words: string): number[] {
  const wanted = words.trim().toLowerCase();
  if (wanted === "") return [];
  const found: { index: number; rank: number }[] = [];
  for (let index = 0; index < classes; index += 1) {
    const name = className(names, index).toLowerCase();
    const rank =
      name === wanted || String(index) === wanted
        ? 0
        : name.startsWith(wanted)
          ? 1
          : name.includes(wanted)
            ? 2
            : 3;
    if (rank < 3) found.push({ index, rank });
  }
  return found
    .sort((a, b) => a.rank - b.rank || a.index - b.index)
    .slice(0, MOST_MATCHES)
    .map(({ index }) => index);
}

/** Filter the runs to choose from, A and B: Enter takes the first, Escape shows all again. */
function runSearch(store: Store, runs: readonly Run[]): TemplateResult {
  const { runWords } = store;
  const found = findRuns(runs, runWords);
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && found[0] !== undefined) store.move({ run: found[0].name });
    if (event.key !== "Escape") return;
    store.set({ runWords: "" });
    event.stopPropagation();
  };
  return html`<input data-testid="run-search" type="search" autocomplete="off" aria-label="Filter runs"
      placeholder=${`filter ${count(runs.length)} runs`} .value=${live(runWords)} @keydown=${onKey}
      @input=${(event: Event) => store.set({ runWords: picked(event) })} />
    <span class="quiet small" role="status" data-testid="runs-found">${runWords.trim() === "" ? nothing : `${count(found.length)} of ${count(runs.length)} runs`}</span>`;
}

function runGroup(store: Store, chosen: Chosen): TemplateResult {
  const runs = store.runs.value?.runs ?? [];
  const { name: shown } = chosen.run;
  return html`<div class="group">
    <label class="label" for="run">Run ${store.other === null ? nothing : side("A")}</label>
    ${runs.length < MANY_RUNS ? nothing : runSearch(store, runs)}
    <select id="run" data-testid="run" title=${shown} @change=${(event: Event) => store.move({ run: picked(event) })}>
      ${findRuns(runs, store.runWords, shown).map(({ name }) => html`<option value=${name} .selected=${live(name === shown)}>${name}</option>`)}
    </select>
  </div>`;
}

function phaseGroup(store: Store, { run, phase }: Chosen): TemplateResult {
  return html`<div class="group">
    <span class="label" id="phase-label">Phase</span>
    <div class="segments" role="group" aria-labelledby="phase-label" data-testid="phase">
      ${run.phases.map(
        ({ name, batches }) => html`<button
          type="button"
          aria-pressed=${name === phase?.name}
          title=${`${name}: ${count(batches)} batches`}
          @click=${() => store.move({ phase: name })}
        >${name}</button>`,
      )}
    </div>
  </div>`;
}

function outputGroup(store: Store, { run, output }: Chosen): TemplateResult | typeof nothing {
  if (run.outputs.length < 2) return nothing;
  return html`<div class="group">
    <label class="label" for="output">Output</label>
    <select id="output" data-testid="output" @change=${(event: Event) => store.move({ output: picked(event) })}>
      ${run.outputs.map(
        ({ name, task, classes }) =>
          html`<option value=${name} .selected=${live(name === output?.name)}>${name} · ${task}${classes > 0 ? `, ${count(classes)}` : ""}</option>`,
      )}
    </select>
  </div>`;
}

function rangeGroup(store: Store, { phase }: Chosen): TemplateResult {
  const { start, stop } = store.selection;
  const first = start ?? phase?.first_step ?? null;
  const last = stop === null ? (phase?.last_step ?? null) : stop - 1;
  const epochs = store.overview.value?.header.epochs ?? [];
  const lastEpoch = epochs[epochs.length - 1];
  const setFirst = (event: Event): void => {
    const value = typed(event);
    store.select({ start: value, stop: value !== null && stop !== null && stop <= value ? null : stop });
  };
  const setLast = (event: Event): void => {
    const value = typed(event);
    const end = value === null ? null : value + 1;
    store.select({ stop: end, start: end !== null && start !== null && start >= end ? null : start });
  };
  return html`<div class="group" role="group" aria-labelledby="range-label">
    <span class="label" id="range-label">Batches</span>
    <div class="span">
      <input inputmode="numeric" aria-label="first batch" data-testid="range-first" .value=${live(first === null ? "" : String(first))}
        @change=${setFirst} />
      <span class="quiet">–</span>
      <input inputmode="numeric" aria-label="last batch" data-testid="range-last" .value=${live(last === null ? "" : String(last))}
        @change=${setLast} />
    </div>
    <span class="quiet small">drag on the timeline ·
      <button type="button" class="link" data-testid="range-all"
        @click=${() => store.select({ start: null, stop: null })}>all</button> ·
      <button type="button" class="link" data-testid="range-epoch" ?disabled=${lastEpoch === undefined}
        @click=${() => store.select({ start: lastEpoch?.step ?? null, stop: null })}>last epoch</button>
    </span>
  </div>`;
}

function classGroup(store: Store, { output }: Chosen): TemplateResult | typeof nothing {
  if (output === null || output.task === "regression" || output.task === "multilabel") return nothing;
  const { target } = store.selection;
  const names = store.classNames;
  const matches = findClasses(names, output.classes, store.search);
  const choose = (index: number): void => {
    store.set({ search: "" });
    store.select({ target: index, predicted: null });
  };
  const onKey = (event: KeyboardEvent): void => {
    const first = matches[0];
    if (event.key === "Enter" && first !== undefined) {
      choose(first);
      (event.target as HTMLElement).blur();
    }
  };
  /** The arrows lead into what is found and back, Escape out of it. */
  const onSearchKey = (event: KeyboardEvent): void => {
    amongButtons(event, document.querySelector<HTMLElement>("#search"));
    if (event.key !== "Escape") return;
    store.set({ search: "" });
    (event.target as HTMLElement).blur();
    event.stopPropagation();
  };
  return html`<div class="group">
    <label class="label" for="search">Class</label>
    <div class="search" @keydown=${onSearchKey}>
      <input
        id="search"
        data-testid="class-search"
        type="text"
        autocomplete="off"
        placeholder="/ search a class"
        .value=${store.search}
        @input=${(event: Event) => store.set({ search: (event.target as HTMLInputElement).value })}
        @keydown=${onKey}
      />
      ${
        store.search.trim() === ""
          ? nothing
          : html`<ul class="matches" aria-label="Classes found" data-testid="class-matches">
            ${matches.map(
              (index) => html`<li><button type="button"
              @click=${() => choose(index)}>${className(names, index)}</button></li>`,
            )}
            ${matches.length === 0 ? html`<li class="state">no class is called so</li>` : nothing}
          </ul>`
      }
    </div>
    ${
      target === null
        ? nothing
        : html`<span><button type="button" class="chip" aria-pressed="true" data-testid="class-chosen"
          @click=${() => store.select({ target: null, predicted: null })}>${removable(`target ${className(names, target)}`)}</button></span>`
    }
  </div>`;
}

function outcomeGroup(store: Store): TemplateResult | typeof nothing {
  const outcomes = store.summary?.outcomes;
  if (outcomes === null || outcomes === undefined) return nothing;
  const kinds = Object.keys(OUTCOME_LABELS) as OutcomeKind[];
  return html`<div class="group" data-testid="outcomes">
    <span class="label" title="confident: a confidence of at least 0.8">Outcome</span>
    ${kinds.map((kind) => html`<span class="outcome"><i class=${`dot ${kind}`}></i>${OUTCOME_LABELS[kind]}<b>${count(outcomes[kind])}</b></span>`)}
  </div>`;
}

function liveGroup(store: Store, chosen: Chosen): TemplateResult {
  const { run, phase } = chosen;
  const [kept, seen] = [phase?.batches ?? 0, phase?.seen ?? 0];
  const { indexing } = run;
  const kind = !store.live ? "paused" : kept < seen || indexing !== null ? "partial" : "";
  const done = indexing === null ? 100 : progress(indexing.read_bytes, indexing.bytes);
  return html`<div class="group end">
    <button
      type="button"
      class=${`badge ${kind}`}
      aria-pressed=${store.live}
      title=${store.live ? "Looks for new batches every few seconds. Click to stop." : "New batches are not looked for. Click to follow the training."}
      data-testid="badge"
      @click=${() => store.setLive(!store.live)}
    >${indexing === null ? `${count(kept)} of ${count(seen)} batches` : `still indexing · ${done} %`} · ${store.live ? html`<span><i class="dot"></i>live</span>` : "not live"}</button>
    ${doctorButton(store, chosen)}
    ${
      indexing === null
        ? nothing
        : html`<progress max="100" .value=${done} aria-label="Event files read" data-testid="progress"></progress>
      <span class="quiet small" data-testid="so-far">Figures are of what was read so far: ${bytesOf(indexing.read_bytes, indexing.bytes)}, ${many(kept, "batch", "batches")}.</span>`
    }
    <span class="quiet small">${
      run.health.workers > 1
        ? html`<span data-testid="workers">${count(run.health.workers)} workers</span> · `
        : nothing
    }<span data-testid="updated">updated ${ago(run.updated, Date.now() / 1000)}</span> ·
      <button type="button" class="link" data-testid="keys" @click=${() => store.set({ help: true })}>? keys</button> ·
      <button type="button" class="link" data-testid="checks" title="what tb-batchview doctor finds" @click=${() => store.set({ checkup: true })}>checks</button></span>
  </div>`;
}

export function sidebarView(store: Store, chosen: Chosen): TemplateResult {
  return html`<aside class="sidebar" aria-label="What is shown" data-testid="sidebar">
    ${runGroup(store, chosen)} ${phaseGroup(store, chosen)} ${outputGroup(store, chosen)} ${rangeGroup(store, chosen)} ${compareGroup(store, chosen)}
    ${classGroup(store, chosen)} ${outcomeGroup(store)} ${liveGroup(store, chosen)}
  </aside>`;
}
