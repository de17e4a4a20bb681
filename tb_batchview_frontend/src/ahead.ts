// Answers asked for before they are wanted, so that the step to them waits for nothing.

const MOST = 24;

export class Ahead<Answer> {
  private readonly answers = new Map<string, Promise<Answer>>();

  /** Ask for an answer that will probably be wanted soon, unless that was done. */
  prepare(key: string, fetchAnswer: () => Promise<Answer>): void {
    if (!this.answers.has(key)) this.keep(key, fetchAnswer());
  }

  /** The answer there is or that is under way, else the one fetched now. */
  take(key: string, fetchAnswer: () => Promise<Answer>): Promise<Answer> {
    const known = this.answers.get(key);
    return known === undefined ? this.keep(key, fetchAnswer()) : known.catch(fetchAnswer);
  }

  private keep(key: string, answer: Promise<Answer>): Promise<Answer> {
    this.answers.set(key, answer);
    // What failed is asked again when it is wanted, and its error is said then.
    answer.catch(() => this.answers.get(key) === answer && this.answers.delete(key));
    const oldest = this.answers.keys().next().value;
    if (this.answers.size > MOST && oldest !== undefined) this.answers.delete(oldest);
    return answer;
  }

  /** Forget what may have changed since. */
  clear(): void {
    this.answers.clear();
  }
}
