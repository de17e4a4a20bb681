// The confusion matrix with its controls, and the list of the pairs most confused.

import { html, nothing, type TemplateResult } from "lit";
import type { Counts } from "../charts/matrix_geometry.js";
import { MatrixModel } from "../charts/matrix_model.js";
import { className, count, exactPercent, many, percent, shortName } from "../format.js";
import { type Pair, type RankedPairs, rankPairs } from "../pairs.js";
import type { Cells, Sort } from "../selection.js";
import type { Store } from "../state.js";
import type { Block, ConfusionHeader } from "../types.js";
import { matrixSheet, savePairs } from "./download.js";
import { matrixChips, matrixPicture, optionsOf } from "./matrix_view.js";
import { cellBar, waiting } from "./parts.js";
import { files } from "./picture.js";
import { classMatches } from "./sidebar.js";
import type { TableColumn } from "./table.js";
import "./table.js";

const CELL_WORDS: Record<Cells, string> = {
  count: "samples",
  row: "share of the target's samples: recall on the diagonal",
  column: "share of what was predicted so: precision on the diagonal",
};

const NO_TARGET = "No samples with a target in this range.";

/** The same object for the same answer, so that the matrix is summed up once and not at every render. */
const matrices = new WeakMap<Block<ConfusionHeader>, Counts & { samples: number }>();
export function matrixOf(answer: Block<ConfusionHeader>): Counts & { samples: number } {
  const known = matrices.get(answer);
  if (known !== undefined) return known;
  const { labels, counts, clustered } = answer.arrays;
  let samples = 0;
  for (const value of counts?.values ?? []) samples += value;
  const matrix = {
    labels: labels?.values ?? [],
    counts: counts?.values ?? [],
    clustered: clustered?.values ?? null,
    samples,
  };
  matrices.set(answer, matrix);
  return matrix;
}

const ranked = new WeakMap<Counts, Map<string, RankedPairs>>();
/** The pairs of the matrix, of the classes searched, in the order of the table. */
export function pairsOf(store: Store, matrix: Counts, sort: Sort = store.pairSort): RankedPairs {
  const words = store.search.trim();
  const key = JSON.stringify([sort, words]);
  const known = ranked.get(matrix)?.get(key);
  if (known !== undefined) return known;
  const keep = classMatches(store.classNames, words);
  const pairs = rankPairs(matrix, sort, keep);
  // Of the searches only the last is kept: every letter typed is another.
  const kept = [...(ranked.get(matrix) ?? [])].slice(-3);
  ranked.set(matrix, new Map([...kept, [key, pairs]]));
  return pairs;
}

function partWords({ shown, classes }: ConfusionHeader): string {
  return shown < classes ? `, the ${count(shown)} with most errors of ${count(classes)}` : "";
}

/** What the picture shows, for those who do not see it. */
function matrixWords(store: Store, header: ConfusionHeader, matrix: Counts): string {
  const head = `Confusion matrix of ${many(header.shown, "class", "classes")}${partWords(header)}; rows are targets.`;
  const worst = worstPair(matrix);
  const names = store.classNames;
  const name = (label: number): string => shortName(className(names, label), 40);
  const words =
    worst === undefined
      ? "No class was taken for another."
      : `Most often ${name(worst.target)} is taken for ${name(worst.predicted)}: ${many(worst.count, "sample")}, ${percent(worst.share)} of ${name(worst.target)}.`;
  return `${head} ${words} Arrow keys, Home, End, Page up and Page down move between cells and heads; Enter shows the samples; + and − zoom, 0 shows all.`;
}

const firsts = new WeakMap<Counts, Pair | null>();
function worstPair(matrix: Counts): Pair | undefined {
  const known = firsts.get(matrix);
  if (known !== undefined) return known ?? undefined;
  const first = rankPairs(matrix, { column: "count", descending: true }, undefined, 1).pairs[0];
  firsts.set(matrix, first ?? null);
  return first;
}

export function matrixPanel(store: Store): TemplateResult {
  const { value: answer, error, loading } = store.confusion;
  if (answer === null) return html`<section class="panel">${waiting(error, loading, NO_TARGET)}</section>`;
  const { header } = answer;
  const options = optionsOf(store);
  const matrix = matrixOf(answer);
  if (matrix.samples === 0) {
    return html`<section class="panel" data-testid="confusion"><div class="head"><h2>Confusion</h2></div>${waiting(error, loading, NO_TARGET)}</section>`;
  }
  const saved = files(store, {
    name: "matrix",
    file: "confusion",
    title: `Confusion, ${CELL_WORDS[options.cells]}`,
    png: true,
    sheet: () => matrixSheet(new MatrixModel(matrix, options)),
  });
  return html`<section class="panel" aria-label="Confusion" data-picture data-testid="confusion">
    <div class="head"><h2>Confusion</h2>
      <span class="quiet small">a click on a cell, a row head or a column head shows its samples${partWords(header)}</span>
      ${saved}</div>
    ${matrixChips(store, "matrix", options)}
    ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
    ${matrixPicture(store, "confusion-matrix", matrixWords(store, header, matrix), matrix, options)}
  </section>`;
}

function pairColumns(store: Store, greatest: number): TableColumn<Pair>[] {
  const names = store.classNames;
  const named = (key: "target" | "predicted", label: string): TableColumn<Pair> => ({
    key,
    label,
    width: 84,
    cell: (pair) => className(names, pair[key]),
    hint: (pair) => className(names, pair[key]),
  });
  const back = ({ target, predicted }: Pair): void =>
    store.select({ target: predicted, predicted: target, sample: null });
  return [
    named("target", "Target"),
    named("predicted", "Taken for"),
    {
      key: "count",
      label: "Samples",
      width: 76,
      number: true,
      sortable: true,
      cell: (pair) => cellBar(pair.count, greatest, count(pair.count)),
    },
    {
      key: "share",
      label: "Of target",
      title: "share of the target's samples",
      width: 62,
      number: true,
      sortable: true,
      cell: (pair) => percent(pair.share),
      hint: (pair) => exactPercent(pair.share),
    },
    {
      key: "back",
      label: "Reverse",
      title: "how often the second was taken for the first; a click shows those samples",
      width: 64,
      number: true,
      sortable: true,
      cell: (pair) =>
        pair.back === 0
          ? "–"
          : html`<button type="button" class="link" title=${`target ${className(names, pair.predicted)}, taken for ${className(names, pair.target)}`}
              @click=${(event: Event) => {
                event.stopPropagation();
                back(pair);
              }}>${count(pair.back)}</button>`,
    },
  ];
}

/** Which classes are taken for which: the list of which the matrix is the picture. */
export function pairsPanel(store: Store): TemplateResult | typeof nothing {
  const { value: answer } = store.confusion;
  if (answer === null || matrixOf(answer).samples === 0) return nothing;
  const matrix = matrixOf(answer);
  const { pairs, total } = pairsOf(store, matrix);
  const { target, predicted } = store.selection;
  const sort = store.pairSort;
  const words = store.search.trim();
  const found = words === "" ? "" : ` of classes with “${shortName(words, 30)}”`;
  const counted = pairs.length < total ? `the first ${count(pairs.length)} of ${count(total)}` : count(total);
  const among =
    answer.header.shown < answer.header.classes
      ? ` among the ${count(answer.header.shown)} classes with most errors`
      : "";
  const greatest = pairs.reduce((most, pair) => Math.max(most, pair.count), 0);
  const pick = (pair: Pair): void => {
    const again = pair.target === target && pair.predicted === predicted;
    store.select({
      target: again ? null : pair.target,
      predicted: again ? null : pair.predicted,
      sample: null,
    });
  };
  const rows = { total: pairs.length, row: (index: number) => pairs[index], want: () => undefined };
  return html`<section class="panel" aria-label="Most confused pairs" data-testid="pairs">
    <div class="head"><h2>Most confused pairs</h2>
      <span class="quiet small" data-testid="pairs-count">${counted}${found}${among}${total === 0 ? "" : " · a row shows its samples"}</span>
      <span class="end small"><button type="button" class="link" data-testid="pairs-csv" title="the pairs listed, in this order"
        ?hidden=${total === 0} @click=${() => savePairs(store, pairs)}>CSV</button></span></div>
    ${
      total === 0
        ? html`<p class="state">${words === "" ? "No class was taken for another." : "No such class was taken for another."}</p>`
        : html`<bv-table
          id="pairs"
          data-testid="pairs-table"
          label="Most confused pairs"
          .columns=${pairColumns(store, greatest)}
          .rows=${rows}
          .sort=${sort}
          .subject=${JSON.stringify([sort, words, store.chosen?.run.name, store.chosen?.phase?.name])}
          .onSort=${(pairSort: Sort) => store.select({ pairSort })}
          .onPick=${pick}
          .isPicked=${(pair: Pair) => pair.target === target && pair.predicted === predicted}
        ></bv-table>`
    }
  </section>`;
}
