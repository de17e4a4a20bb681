import { expect, test } from "vitest";
import { PAGE, Pages, Resource } from "../src/resource.js";
import { later, settle } from "./fakes.js";

const noop = (): void => undefined;

test("an answer to an older question is dropped", async () => {
  const [old, fresh] = [later<string>(), later<string>()];
  const resource = new Resource<string>(noop);
  resource.load("run", "first", () => old.promise);
  resource.load("run", "second", () => fresh.promise);
  fresh.resolve("second");
  await settle();
  old.resolve("first");
  await settle();
  expect([resource.value, resource.loading]).toEqual(["second", false]);
});

test("the older request is aborted", () => {
  const resource = new Resource<string>(noop);
  const signals: AbortSignal[] = [];
  const never = (signal: AbortSignal): Promise<string> => {
    signals.push(signal);
    return later<string>().promise;
  };
  resource.load("run", "first", never);
  resource.load("run", "second", never);
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
});

test("the same question is asked once, and again when told to", async () => {
  let asked = 0;
  const fetchAnswer = async (): Promise<number> => {
    asked += 1;
    return asked;
  };
  const resource = new Resource<number>(noop);
  await resource.load("", "key", fetchAnswer);
  await resource.load("", "key", fetchAnswer);
  expect(asked).toBe(1);
  await resource.load("", "key", fetchAnswer, true);
  expect([asked, resource.value]).toEqual([2, 2]);
});

test("the last answer stays while the next is under way, but not that of another run", async () => {
  const resource = new Resource<string>(noop);
  await resource.load("a", "1", async () => "one");
  resource.load("a", "2", () => later<string>().promise);
  expect(resource.value).toBe("one");
  resource.load("b", "3", () => later<string>().promise);
  expect(resource.value).toBeNull();
});

test("an error is kept as a sentence and goes with the next answer", async () => {
  const resource = new Resource<string>(noop);
  await resource.load("", "1", () => Promise.reject(new Error("step must be recorded.")));
  expect([resource.error, resource.value]).toEqual(["step must be recorded.", null]);
  await resource.load("", "1", async () => "there", true);
  expect([resource.error, resource.value]).toEqual([null, "there"]);
});

interface Answer {
  total: number;
  offset: number;
  rows: number[];
}

function table(total: number): {
  pages: Pages<Answer, number>;
  asked: number[];
  open: (key: string, again?: boolean) => void;
} {
  const asked: number[] = [];
  const pages = new Pages<Answer, number>((answer) => answer.rows, noop);
  const fetchPage = async (offset: number, limit: number): Promise<Answer> => {
    asked.push(offset);
    const length = Math.max(0, Math.min(limit, total - offset));
    return { total, offset, rows: Array.from({ length }, (_, index) => offset + index) };
  };
  return { pages, asked, open: (key, again = false) => pages.open("run", key, fetchPage, again) };
}

test("pages are fetched as they come into view, each once", async () => {
  const { pages, asked, open } = table(10 * PAGE);
  open("by step");
  await settle();
  pages.want(3 * PAGE - 1, 3 * PAGE);
  pages.want(3 * PAGE - 1, 3 * PAGE);
  await settle();
  expect(asked).toEqual([0, 2 * PAGE, 3 * PAGE]);
  expect([pages.total, pages.row(0), pages.row(3 * PAGE), pages.row(5 * PAGE)]).toEqual([
    10 * PAGE,
    0,
    3 * PAGE,
    undefined,
  ]);
});

test("a refresh asks for the pages in view and keeps their rows meanwhile", async () => {
  const { pages, asked, open } = table(10 * PAGE);
  open("by step");
  await settle();
  pages.want(4 * PAGE, 4 * PAGE + 20);
  await settle();
  asked.length = 0;
  open("by step", true);
  expect(pages.row(4 * PAGE)).toBe(4 * PAGE);
  await settle();
  expect([asked, pages.row(0)]).toEqual([[4 * PAGE], undefined]);
});

test("an error is not asked for in a circle", async () => {
  let asked = 0;
  const pages = new Pages<Answer, number>(
    (answer) => answer.rows,
    () => pages.want(0, 10),
  );
  pages.open("run", "key", () => {
    asked += 1;
    return Promise.reject(new Error("gone"));
  });
  await settle();
  await settle();
  expect([asked, pages.error]).toEqual([1, "gone"]);
});

test("rows of an older order are dropped", async () => {
  const [old, fresh] = [later<Answer>(), later<Answer>()];
  const pages = new Pages<Answer, number>((answer) => answer.rows, noop);
  pages.open("run", "by step", () => old.promise);
  pages.open("run", "by loss", () => fresh.promise);
  fresh.resolve({ total: 1, offset: 0, rows: [42] });
  old.resolve({ total: 2, offset: 0, rows: [1, 2] });
  await settle();
  expect([pages.total, pages.row(0)]).toEqual([1, 42]);
});

test("pages that are only scrolled past are not fetched", async () => {
  const { pages, asked, open } = table(100 * PAGE);
  open("by step");
  await settle();
  for (let page = 10; page < 60; page += 10) pages.want(page * PAGE, page * PAGE + 20);
  await settle();
  pages.want(90 * PAGE, 90 * PAGE + 20);
  await settle();
  expect(asked).toEqual([0, 10 * PAGE, 20 * PAGE, 90 * PAGE]);
});
