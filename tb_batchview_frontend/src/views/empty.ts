// The page when there is nothing to show yet: what was looked at, and the lines that are missing.

import { html, type TemplateResult } from "lit";
import { bytesOf } from "../format.js";
import type { Store } from "../state.js";
import type { DataProvider, Indexing } from "../types.js";

/** How far reading has come, as a sentence. */
export const readingWords = ({ read_bytes, bytes }: Indexing): string =>
  bytes === 0
    ? "Still looking for event files."
    : `Still reading the event files: ${bytesOf(read_bytes, bytes)}.`;

const CODE = `from tb_batchview import BatchViewCallback

model.fit(x, y, callbacks=[BatchViewCallback("LOGDIR/run-1")])`;

/** Without a log directory: what its data provider has is asked for, or is nothing of ours. */
function providedView({ location, failure }: DataProvider, asking: boolean): TemplateResult {
  const where = html`<code data-testid="location">${location || "(of no name)"}</code>`;
  return asking
    ? html`<main class="wide"><p class="state" data-testid="reading">Still asking TensorBoard’s data provider.</p></main>`
    : html`<main class="wide"><section class="empty" data-testid="empty">
    <h1>No recorded batches</h1>
    ${
      failure === ""
        ? html`<p>TensorBoard has no log directory here. Its data provider, ${where}, was asked and has nothing of Batch View.</p>`
        : html`<p role="alert">TensorBoard has no log directory here, and its data provider, ${where}, could not be asked: ${failure}. It is tried again.</p>`
    }
    <p>All batches are shown by a TensorBoard that reads the files:</p>
    <pre tabindex="0" aria-label="the command"><code>tensorboard --logdir LOGDIR</code></pre>
  </section></main>`;
}

export function emptyView(store: Store): TemplateResult {
  const { value: answer, error } = store.runs;
  if (error !== null) {
    return html`<main class="wide"><section class="empty" role="alert" data-testid="error">
      <h1>The runs could not be read</h1>
      <p>${error}</p>
      <p><button type="button" class="button" @click=${() => store.refresh()}>Try again</button></p>
    </section></main>`;
  }
  if (answer === null)
    return html`<main class="wide"><p class="state" data-testid="loading">Loading…</p></main>`;
  if (answer.data_provider !== null) return providedView(answer.data_provider, answer.indexing !== null);
  if (answer.indexing !== null) {
    return html`<main class="wide"><p class="state" data-testid="reading">${readingWords(answer.indexing)}
      TensorBoard looks in <code>${answer.logdir || "(no log directory)"}</code> and below it.</p></main>`;
  }
  return html`<main class="wide"><section class="empty" data-testid="empty">
    <h1>No recorded batches yet</h1>
    <p>TensorBoard looked in <code data-testid="logdir">${answer.logdir || "(no log directory)"}</code> and below it, and found no file of Batch View.</p>
    <p>Add the callback to your training:</p>
    <pre tabindex="0" aria-label="the callback"><code>${CODE.replace("LOGDIR", answer.logdir || "logs")}</code></pre>
    <p>In a loop of your own, in any framework:</p>
    <pre tabindex="0" aria-label="the writer"><code>from tb_batchview import BatchWriter

with BatchWriter("${answer.logdir || "logs"}/run-1") as writer:
    writer.add_batch(step=step, phase="train", epoch=epoch,
                     predictions=scores, targets=labels, loss=loss)</code></pre>
    <p class="quiet">Batches appear here while the training runs. If you expected some, ask <code>tb-batchview doctor ${answer.logdir || "LOGDIR"}</code> what it finds.</p>
  </section></main>`;
}
