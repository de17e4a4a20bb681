// The sheet of what `tb-batchview doctor` finds, and the button that opens it when something is to be mended.

import { html, nothing, type TemplateResult } from "lit";
import type { Chosen } from "../choice.js";
import { many } from "../format.js";
import type { Store } from "../state.js";
import { waiting } from "./parts.js";
import { healthWords } from "./sentence.js";

/** What is wrong with a run: the plugin tells it with every answer, the remedies only when they are asked for. */
export const problemsOf = ({ run }: Chosen): number =>
  healthWords(run.health).length + run.phases.filter(({ batches, seen }) => batches < seen).length;

/** In the sidebar, beside how many batches are there. */
export function doctorButton(store: Store, chosen: Chosen): TemplateResult | typeof nothing {
  const problems = problemsOf(chosen);
  if (problems === 0 || chosen.run.indexing !== null) return nothing;
  return html`<button type="button" class="badge partial" data-testid="doctor" title="What is wrong, and what to do"
    @click=${() => store.set({ checkup: true })}>${many(problems, "problem")} · what to do</button>`;
}

export function doctorView(store: Store): TemplateResult {
  const { value: answer, error, loading } = store.doctor;
  const close = (): void => store.set({ checkup: false });
  const findings = [...(answer?.findings ?? [])].sort(
    (a, b) => Number(a.remedy === "") - Number(b.remedy === ""),
  );
  return html`<dialog class="broad" aria-labelledby="doctor-title" data-testid="doctor-sheet" @close=${close}>
    <h2 id="doctor-title">What <code>tb-batchview doctor</code> finds</h2>
    ${
      answer === null || error !== null
        ? waiting(error, loading, "")
        : html`<dl class="findings" tabindex="0" aria-label="Findings">${findings.map(
            ({ about, state, remedy }) => html`<dt>${about}</dt>
            <dd>${state}${remedy === "" ? nothing : html`<p><b>To do:</b> ${remedy}</p>`}</dd>`,
          )}</dl>`
    }
    <button type="button" class="button" @click=${close}>Close</button>
  </dialog>`;
}
