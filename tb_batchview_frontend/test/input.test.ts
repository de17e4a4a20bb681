import { expect, test, vi } from "vitest";
import { INITIAL, type Selection } from "../src/selection.js";
import { Store } from "../src/state.js";
import type { RunsAnswer } from "../src/types.js";
import { AppElement } from "../src/views/app.js";
import { RESTS } from "../src/views/input.js";
import { fakePlugin, HOSTILE, layOut, runsAnswer, SAMPLE, settle, timelineBlock } from "./fakes.js";

vi.mock("uplot", () => ({ default: class {} }));
layOut();

type Routes = Parameters<typeof fakePlugin>[0];
const withInputs = (inputs: "images" | "text" | null): RunsAnswer => {
  const answer = runsAnswer();
  for (const phase of answer.runs[0]?.phases ?? []) phase.inputs = inputs;
  return answer;
};
const rows = (total: number) => (query: URLSearchParams) => ({
  total,
  offset: Number(query.get("offset")),
  identified: true,
  samples: Array.from({ length: Math.min(total, 100) }, (_, index) => ({
    ...SAMPLE,
    id: HOSTILE,
    sample: Number(query.get("offset")) + index,
  })),
});
const ROUTES: Routes = {
  batches: () => timelineBlock(),
  samples: rows(3),
  sample: () => ({ ...SAMPLE, classes: 10, scores: SAMPLE.top, seen: 0, history: [], history_refused: null }),
};

async function showPage(
  inputs: "images" | "text" | null,
  selection: Partial<Selection>,
  routes: Routes = {},
) {
  const { asked } = fakePlugin({ ...ROUTES, runs: () => withInputs(inputs), ...routes });
  const app = new AppElement();
  const store = new Store(
    { ...INITIAL, tab: "samples", map: false, ...selection },
    () => app.requestUpdate(),
    () => undefined,
  );
  app.store = store;
  document.body.append(app);
  store.want();
  for (let turn = 0; turn < 6; turn += 1) await settle();
  await app.updateComplete;
  const rest = async (): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, RESTS + 10));
    for (let turn = 0; turn < 4; turn += 1) await settle();
  };
  const all = (what: string): Element[] => [...app.querySelectorAll(what)];
  const thumbnails = (): string[] => asked.filter((address) => address.startsWith("./thumbnail"));
  return { app, store, rest, all, thumbnails };
}

const TABLE = '[data-testid="samples-table"]';

test("a run without inputs has no column of them, and asks for none", async () => {
  const { all, rest, thumbnails } = await showPage(null, { sample: { step: 4, sample: 7 } });
  await rest();
  expect(all(`${TABLE} th`).map((head) => head.getAttribute("data-column"))).not.toContain("input");
  expect([all("bv-input").length, thumbnails().length, all(`${TABLE} .tall`).length]).toEqual([0, 0, 0]);
});

test("pictures stand in the table, named by their ids, and larger beside the sample", async () => {
  const { all, rest } = await showPage("images", { sample: { step: 4, sample: 7 } });
  expect(all("bv-input img")).toEqual([]);
  await rest();
  const images = all(`${TABLE} bv-input img`) as HTMLImageElement[];
  expect(images.map((image) => image.getAttribute("src"))).toEqual(
    [0, 1, 2].map(
      (sample) => `./thumbnail?run=digits&phase=train&output=probabilities&step=4&sample=${sample}`,
    ),
  );
  expect(images.map((image) => image.alt)).toEqual(Array(3).fill(`Input of sample ${HOSTILE}`));
  expect(all('[data-testid="sample"] bv-input img')[0]?.getAttribute("alt")).toBe("Input of sample #7");
  expect(all(`${TABLE} table.tall`).length).toBe(1);
});

test("small pictures keep their pixels, large ones are made small smoothly", async () => {
  const { all, rest } = await showPage("images", {});
  await rest();
  const [small, large] = all("bv-input img") as HTMLImageElement[];
  const loaded = (image: HTMLImageElement | undefined, natural: number): boolean | undefined => {
    if (image === undefined) return undefined;
    Object.defineProperties(image, { naturalWidth: { value: natural }, width: { value: 40 } });
    image.dispatchEvent(new Event("load"));
    return image.classList.contains("pixels");
  };
  expect([loaded(small, 28), loaded(large, 256)]).toEqual([true, false]);
});

test("where there is no picture a dash says so", async () => {
  const { all, rest } = await showPage("images", {});
  await rest();
  all("bv-input img")[1]?.dispatchEvent(new Event("error"));
  await settle();
  expect(all(`${TABLE} bv-input`).map((input) => input.textContent?.trim())).toEqual(["", "–", ""]);
  expect(all("bv-input [role=img]")[0]?.getAttribute("aria-label")).toBe(
    "No picture can be shown of this sample",
  );
});

test("texts are text, whatever they hold", async () => {
  const texts = [HOSTILE, "NaN", "\u202eabc"];
  const { all, rest } = await showPage(
    "text",
    {},
    { thumbnail: (query) => ({ text: texts[Number(query.get("sample"))] }) },
  );
  await rest();
  const cells = all(`${TABLE} bv-input span`);
  expect(cells.map((cell) => cell.textContent)).toEqual(texts);
  expect(cells.map((cell) => cell.getAttribute("dir"))).toEqual(["auto", "auto", "auto"]);
  expect(all("bv-input img").length).toBe(0);
  expect(all(`${TABLE} .tall`).length).toBe(0);
});

test("a text that is refused says why", async () => {
  const refused = () => new Response("Not found: The input was not recorded.", { status: 404 });
  const { all, rest } = await showPage("text", {}, { thumbnail: refused });
  await rest();
  expect(all("bv-input [role=img]").map((dash) => dash.getAttribute("title"))).toEqual(
    Array(3).fill("The input was not recorded."),
  );
});

test("rows out of view, and rows that are only scrolled past, ask for nothing", async () => {
  const { app, all, rest, store, thumbnails } = await showPage(
    "text",
    {},
    { samples: rows(90_000), thumbnail: () => ({ text: "a" }) },
  );
  const before = all(`${TABLE} bv-input`).length;
  expect([before > 5, before < 60, thumbnails().length]).toEqual([true, true, 0]);
  store.select({ tab: "layers" }); // gone before they came to rest
  await app.updateComplete;
  await rest();
  expect([thumbnails().length, all(`${TABLE} bv-input`).length]).toEqual([0, 0]);
  store.select({ tab: "samples" });
  await rest();
  await rest();
  expect(thumbnails().length).toBe(all(`${TABLE} bv-input`).length);
});

test("a cell that comes to show another sample forgets the first", async () => {
  let answer: (text: string) => void = () => undefined;
  const { app, all, rest, store } = await showPage(
    "text",
    {},
    {
      samples: (query) => {
        const shown = rows(1)(query);
        return query.get("sort") === "loss" ? { ...shown, samples: [{ ...SAMPLE, sample: 50 }] } : shown;
      },
      thumbnail: (query) =>
        query.get("sample") === "50"
          ? { text: "second" }
          : new Response(
              new ReadableStream({
                start(controller) {
                  answer = (text) => {
                    controller.enqueue(new TextEncoder().encode(JSON.stringify({ text })));
                    controller.close();
                  };
                },
              }),
            ),
    },
  );
  await rest(); // the first is asked for, and late
  store.select({ sampleSort: { column: "loss", descending: true } });
  await rest();
  answer("first");
  await rest();
  await app.updateComplete;
  expect(all(`${TABLE} bv-input`).map((input) => input.textContent)).toEqual(["second"]);
});
