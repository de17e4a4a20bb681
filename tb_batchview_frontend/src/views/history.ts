// A sample over the epochs: each time it was seen, what it was taken for and how surely.

import { html, nothing, type TemplateResult } from "lit";
import { className, count, figure, many, percent, score } from "../format.js";
import { NO_FILTER } from "../sample_filter.js";
import type { Store } from "../state.js";
import type { SampleAnswer, SampleTime } from "../types.js";
import { number, OUTCOME_LABELS, outcomeOf } from "./parts.js";

const SHOWN = 200;
/** An id this long is not repeated in the address. */
const LONGEST = 200;

/** What is said of one time, to the eye on hover and to those who do not see. */
export function timeWords(time: SampleTime, names: readonly string[] | null): string {
  const place = `epoch ${count(time.epoch)}, batch ${count(time.step)}`;
  const outcome = outcomeOf({ ...time, id: null });
  if (outcome === null) return `${place}: error ${figure(time.error)}, loss ${figure(time.loss)}`;
  const taken = `predicted ${className(names, time.predicted)} with ${score(time.confidence)}`;
  return `${place}: ${taken}; ${OUTCOME_LABELS[outcome]}; target ${score(time.target_score)}, loss ${figure(time.loss)}`;
}

/** Open the sample as it was at another time, and in Batches the batch that it is shown below. */
function open(store: Store, { step, sample }: SampleTime): void {
  if (store.selection.tab === "batches") store.pick(step);
  store.select({ sample: { step, sample } });
}

function strip(store: Store, answer: SampleAnswer): TemplateResult {
  const names = store.classNames;
  const times = answer.history.slice(-SHOWN);
  const most = Math.max(
    ...times.map(({ loss, error }) => loss ?? error ?? 0).filter(Number.isFinite),
    Number.MIN_VALUE,
  );
  const named = times.length <= 16;
  return html`<ol class=${named ? "strip words" : "strip"} aria-label="each time it was seen" data-testid="history-strip">${times.map(
    (time) => {
      const outcome = outcomeOf({ ...time, id: null });
      const height = outcome === null ? (time.loss ?? time.error ?? 0) / most : (time.confidence ?? 0);
      const words = timeWords(time, names);
      const here = time.step === answer.step && time.sample === answer.sample;
      return html`<li><button type="button" class="time" title=${words} aria-label=${words} aria-current=${here ? "true" : nothing}
        @click=${() => open(store, time)}
        ><i class=${outcome ?? ""} .style=${`--share:${Number.isFinite(height) ? Math.min(1, Math.max(0, height)) : 1}`}></i>${
          named && outcome !== null ? html`<span>${className(names, time.predicted)}</span>` : nothing
        }</button></li>`;
    },
  )}</ol>`;
}

/** The history of a sample; nothing where it has no id. */
export function historyView(store: Store, answer: SampleAnswer): TemplateResult | typeof nothing {
  const { id, seen, dynamics, history, history_refused: refused } = answer;
  if (refused !== null && refused !== undefined) return html`<p class="quiet small">${refused}</p>`;
  if (id === null || history.length === 0) return nothing;
  const text = String(id);
  const shown = Math.min(SHOWN, history.length);
  const written = (value: number | null, words: (value: number | null) => string): TemplateResult =>
    number(value, words(value));
  const figures =
    dynamics === null || dynamics === undefined
      ? ""
      : html` · right ${written(dynamics.correctness, percent)} · forgotten ${many(dynamics.forgetting, "time")} · mean target score ${written(dynamics.mean_target_score, score)} ± ${written(dynamics.variability, score)} · margin ${written(dynamics.margin, score)}`;
  return html`<div class="panel" data-testid="history">
    <p class="small"><b>Seen ${many(seen, "time")}</b><span class="quiet">${figures}</span></p>
    ${strip(store, answer)}
    <p class="quiet small">${
      history.some((time) => outcomeOf({ ...time, id: null }) !== null)
        ? "height: confidence; colour: right or wrong"
        : "height: loss"
    }${shown < seen ? `; the last ${count(shown)} times` : ""}${
      text === "" || text.length > LONGEST
        ? nothing
        : html` · <button type="button" class="link" data-testid="history-rows"
          @click=${() =>
            store.select({
              ...NO_FILTER,
              tab: "samples",
              id: text,
              outcome: "all",
              target: null,
              predicted: null,
              sampleSort: { column: "step", descending: false },
            })}>as rows</button>`
    }</p>
  </div>`;
}
