import { expect, test, vi } from "vitest";
import { Ahead } from "../src/ahead.js";
import { later, settle } from "./fakes.js";

test("an answer that was prepared is not asked for again, one that was not is", async () => {
  const ahead = new Ahead<string>();
  const fetched = vi.fn(async () => "prepared");
  ahead.prepare("417", fetched);
  ahead.prepare("417", fetched);
  expect(await ahead.take("417", async () => "fetched")).toBe("prepared");
  expect(await ahead.take("418", async () => "fetched")).toBe("fetched");
  expect(fetched).toHaveBeenCalledTimes(1);
});

test("what could not be prepared is asked for when it is wanted", async () => {
  const ahead = new Ahead<string>();
  const { promise, reject } = later<string>();
  ahead.prepare("417", () => promise);
  const early = ahead.take("417", async () => "fetched");
  reject(new Error("no answer"));
  expect(await early).toBe("fetched");
  await settle();
  expect(await ahead.take("417", async () => "fetched again")).toBe("fetched again");
});

test("what may have changed is forgotten, and the oldest beyond two dozen", async () => {
  const ahead = new Ahead<number>();
  for (let step = 0; step < 40; step += 1) ahead.prepare(String(step), async () => step);
  const fresh = async (): Promise<number> => -1;
  expect(await ahead.take("39", fresh)).toBe(39);
  expect(await ahead.take("0", fresh)).toBe(-1);
  ahead.clear();
  expect(await ahead.take("39", fresh)).toBe(-1);
});
