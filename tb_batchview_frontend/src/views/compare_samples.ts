// The Samples tab with a run B: the samples that both saw, by how they came out.

import { html, nothing, type TemplateResult } from "lit";
import { difference } from "../compare.js";
import { className, count, exact, figure, many, percent, score } from "../format.js";
import type { Store } from "../state.js";
import type { JoinedAnswer, JoinedSample, Joint, Sample } from "../types.js";
import { change, side } from "./compare_parts.js";
import { inputColumns } from "./input.js";
import { chip, waiting } from "./parts.js";
import { idCell, idText, isOpen, openSample } from "./sample_columns.js";
import type { TableColumn } from "./table.js";
import "./table.js";

/** Whether the table of the tab is that of both runs. */
export const showsJoined = ({ versus, selection }: Store): boolean =>
  versus.joins && selection.together && isJoined(versus.joined.head);

const isJoined = (head: JoinedAnswer | null): boolean => head?.identified === true && head.identified_against;

const JOINT_WORDS: Record<Joint, string> = {
  both_correct: "both right",
  only_a: "only A right",
  only_b: "only B right",
  both_wrong: "both wrong",
};

/** Counts of how the samples came out: A down, B across; a click keeps those of a cell. */
function outcomeGrid(store: Store, { counts }: JoinedAnswer): TemplateResult {
  const { joint } = store.selection;
  const all = Object.values(counts).reduce((sum, value) => sum + value, 0);
  const cell = (kind: Joint): TemplateResult => {
    const share = all === 0 ? "" : ` · ${percent(counts[kind] / all)}`;
    return chip(
      html`${JOINT_WORDS[kind]} <b>${count(counts[kind])}</b><span class="quiet">${share}</span>`,
      joint === kind,
      () => store.select({ joint: joint === kind ? "all" : kind, sample: null }),
      `joint-${kind}`,
    );
  };
  return html`<div class="outcomes" role="group" aria-label="How the samples came out in both runs" data-testid="joint">
    <span></span><span class="quiet small">${side("B")} right</span><span class="quiet small">${side("B")} wrong</span>
    <span class="quiet small">${side("A")} right</span>${cell("both_correct")}${cell("only_a")}
    <span class="quiet small">${side("A")} wrong</span>${cell("only_b")}${cell("both_wrong")}
  </div>`;
}

type Names = readonly string[] | null;

function columnsOf(store: Store): TableColumn<JoinedSample>[] {
  const names = store.classNames;
  const others = store.versus.classNames ?? (store.other?.run.name === store.chosen?.run.name ? names : null);
  const predicted = (
    which: "A" | "B",
    of: (row: JoinedSample) => Sample,
    called: Names,
    key: string,
  ): TableColumn<JoinedSample> => ({
    key,
    label: `${which} predicted`,
    width: 92,
    cell: (row) => {
      const right = of(row).target === of(row).predicted;
      return html`<span class=${right ? "good" : "bad"}>${right ? "✓" : "✗"} ${className(called, of(row).predicted)}</span>`;
    },
    hint: (row) =>
      `${which}: ${className(called, of(row).predicted)}, ${of(row).target === of(row).predicted ? "right" : "wrong"}; batch ${count(of(row).step)}`,
  });
  const number = (
    key: string,
    label: string,
    width: number,
    value: (row: JoinedSample) => number | null,
    text: (value: number | null) => string,
  ): TableColumn<JoinedSample> => ({
    key,
    label,
    width,
    number: true,
    sortable: true,
    cell: (row) => text(value(row)),
    hint: (row) => exact(value(row)),
  });
  return [
    ...inputColumns<JoinedSample>(store),
    { key: "id", label: "Sample", width: 100, sortable: true, cell: idCell, hint: idText },
    {
      key: "target",
      label: "Target",
      title: "the target in A; ≠ where that in B is another",
      width: 78,
      cell: (row) => {
        const [a, b] = [className(names, row.target), className(others, row.against.target)];
        return a === b ? a : `${a} ≠ ${b}`;
      },
      hint: (row) => `A ${className(names, row.target)}, B ${className(others, row.against.target)}`,
    },
    predicted("A", (row) => row, names, "predicted"),
    predicted("B", ({ against }) => against, others, "predicted_against"),
    number("confidence", "A conf.", 58, (row) => row.confidence, score),
    number("confidence_against", "B conf.", 58, ({ against }) => against.confidence, score),
    number("loss", "A loss", 62, (row) => row.loss, figure),
    number("loss_against", "B loss", 62, ({ against }) => against.loss, figure),
    {
      key: "loss_change",
      label: "Δ loss",
      title: "loss in A less that in B",
      width: 78,
      number: true,
      sortable: true,
      cell: (row) => change(difference(row.loss, row.against.loss), figure, "lower"),
      hint: (row) => exact(difference(row.loss, row.against.loss)),
    },
  ];
}

/** What was not joined, in a sentence. */
export function joinWords({ only_in_a, only_in_b, targets_differ }: JoinedAnswer): string {
  const parts = [
    only_in_a === 0 ? "" : `${count(only_in_a)} only in A`,
    only_in_b === 0 ? "" : `${count(only_in_b)} only in B`,
    targets_differ === 0 ? "" : `${count(targets_differ)} with another target in B`,
  ].filter((part) => part !== "");
  return parts.length === 0 ? "" : ` · ${parts.join(" · ")}`;
}

/** The samples both runs saw, each as it was last in either range. */
export function joinedPanel(store: Store): TemplateResult {
  const { joined } = store.versus;
  const { head, error } = joined;
  if (head === null)
    return html`<section class="panel">${waiting(error, joined.loading, "No samples in this range.")}</section>`;
  if (!isJoined(head)) {
    const who =
      !head.identified && !head.identified_against ? "A and B have" : head.identified ? "B has" : "A has";
    return html`<p class="quiet" data-testid="join-no-ids">To see which samples both runs saw, both need ids of them; ${who} none:
      <code>model.fit(with_ids(x, ids), y)</code> or <code>writer.add_batch(…, sample_ids=ids)</code>. These are the samples of A.</p>`;
  }
  const { together, joint, target, predicted } = store.selection;
  const seen = Object.values(head.counts).reduce((sum, value) => sum + value, 0);
  return html`<section class="panel" aria-label="Samples of both runs" data-testid="joined">
    <div class="head"><h2>The same samples in A and B</h2>
      <span class="quiet small" data-testid="joined-count">${many(seen, "sample")} in both, each as it was last seen${joinWords(head)}</span>
      <span class="end">${chip(together ? "hide the table" : "show the table", together, () => store.select({ together: !together }), "together")}</span></div>
    ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
    ${outcomeGrid(store, head)}
    ${
      together
        ? html`<bv-table
            id="joined"
            data-testid="joined-table"
            label="Samples of both runs"
            .columns=${columnsOf(store)}
            .rows=${joined}
            .sort=${store.versus.joinSort}
            .subject=${JSON.stringify([store.versus.ofSamples])}
            .onSort=${(joinSort: Store["versus"]["joinSort"]) => store.select({ joinSort })}
            .onPick=${(row: JoinedSample) => openSample(store, row)}
            .isPicked=${isOpen(store)}
          ></bv-table>
          <p class="quiet small">${many(joined.total, "sample")}${joint === "all" ? "" : `, ${JOINT_WORDS[joint]}`}${
            target === null && predicted === null ? "" : ", of the classes chosen"
          } · a row opens the sample of A</p>`
        : nothing
    }
  </section>`;
}
