// Answers that are wanted now: one value, or pages of rows. An answer to an older question is dropped, whenever it arrives.

import type { Page } from "./types.js";

type Fetch<Answer> = (signal: AbortSignal) => Promise<Answer>;

function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** One answer. While the next one is under way the last one stays, unless it is of another `scope`. */
export class Resource<Answer> {
  value: Answer | null = null;
  error: string | null = null;
  loading = false;
  private key: string | null = null;
  private scope = "";
  private pending: AbortController | null = null;

  constructor(private readonly changed: () => void) {}

  /** Ask for `key` unless that was the last question; `again` asks in any case. */
  async load(scope: string, key: string, fetchAnswer: Fetch<Answer>, again = false): Promise<void> {
    // A refresh does not overtake the answer it would repeat.
    if (key === this.key && (!again || this.loading)) return;
    if (scope !== this.scope) this.value = null;
    this.pending?.abort();
    const pending = new AbortController();
    Object.assign(this, { key, scope, pending, loading: true });
    const settle = (change: () => void): void => {
      if (this.pending !== pending) return;
      this.loading = false;
      change();
      this.changed();
    };
    await fetchAnswer(pending.signal).then(
      (value) => settle(() => Object.assign(this, { value, error: null })),
      (error) => settle(() => Object.assign(this, { error: sentence(error) })),
    );
  }

  clear(): void {
    this.pending?.abort();
    Object.assign(this, { pending: null, key: null, value: null, error: null, loading: false });
  }
}

/** Rows `offset` to `offset + limit` of a table, with the whole answer they came in. */
type FetchPage<Answer> = (offset: number, limit: number, signal: AbortSignal) => Promise<Answer>;

export const PAGE = 200;
const KEPT_PAGES = 60;
const AT_ONCE = 2;

/** The rows of a long table, fetched by pages as they come into view. */
export class Pages<Answer extends Page, Row> {
  total = 0;
  head: Answer | null = null;
  error: string | null = null;
  private key: string | null = null;
  private scope = "";
  private generation = 0;
  private controller = new AbortController();
  private pages = new Map<number, Row[]>();
  private wanted = new Set<number>();
  private stale = false;
  private visible: [number, number] = [0, 0];
  private fetchPage: FetchPage<Answer> | null = null;

  constructor(
    private readonly rowsOf: (answer: Answer) => Row[],
    private readonly changed: () => void,
  ) {}

  get loading(): boolean {
    return this.wanted.size > 0;
  }

  /** Show the table `key`; `again` asks for the visible rows once more. */
  open(scope: string, key: string, fetchPage: FetchPage<Answer>, again = false): void {
    this.fetchPage = fetchPage;
    const same = key === this.key;
    if (same && (!again || this.loading)) return;
    if (scope !== this.scope) this.forget();
    if (!same) this.visible = [0, 0];
    Object.assign(this, { key, scope, error: null, generation: this.generation + 1 });
    this.controller.abort();
    this.controller = new AbortController();
    this.wanted.clear();
    const [first, last] = this.visible;
    // The same table keeps what is seen; another one keeps its old rows only until its first page is there.
    this.stale = !same;
    for (const page of this.pages.keys()) if (same && (page < first || page > last)) this.pages.delete(page);
    for (let page = first; page <= last; page += 1) this.ask(page);
  }

  row(index: number): Row | undefined {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  /** Place of the first row that is here and fits; `null` when none is, or when the rows are still those of another table. */
  find(fits: (row: Row) => boolean): number | null {
    if (this.stale) return null;
    for (const [page, rows] of this.pages) {
      const row = rows.findIndex(fits);
      if (row >= 0) return page * PAGE + row;
    }
    return null;
  }

  /** Fetch what is missing of the rows from `first` to `last`. */
  want(first: number, last: number): void {
    if (this.stale) return;
    this.visible = [Math.floor(first / PAGE), Math.floor(last / PAGE)];
    if (this.error !== null) return; // asked again with the next refresh, not in a circle
    for (let page = this.visible[0]; page <= this.visible[1]; page += 1) {
      // When one arrives the table is rendered and asks again: pages that were only scrolled past are not fetched.
      if (this.wanted.size >= AT_ONCE) return;
      if (page * PAGE < this.total && !this.pages.has(page)) this.ask(page);
    }
  }

  private ask(page: number): void {
    if (this.wanted.has(page) || this.fetchPage === null) return;
    this.wanted.add(page);
    const generation = this.generation;
    const settle = (change: () => void): void => {
      if (generation !== this.generation) return;
      this.wanted.delete(page);
      change();
      this.changed();
    };
    this.fetchPage(page * PAGE, PAGE, this.controller.signal).then(
      (answer) => settle(() => this.keep(page, answer)),
      (error) => settle(() => Object.assign(this, { error: sentence(error) })),
    );
  }

  private keep(page: number, answer: Answer): void {
    if (this.stale) this.pages.clear();
    this.stale = false;
    this.error = null;
    this.head = answer;
    this.total = answer.total;
    this.pages.set(page, this.rowsOf(answer));
    const oldest = this.pages.keys().next().value;
    if (this.pages.size > KEPT_PAGES && oldest !== undefined) this.pages.delete(oldest);
  }

  private forget(): void {
    this.pages.clear();
    Object.assign(this, { total: 0, head: null, error: null });
  }
}
