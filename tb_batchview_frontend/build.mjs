// Bundles src/main.ts into one file. Called by setup.py and by `npm run build [-- output directory]`.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { parse } from "acorn";
import { build, transform } from "esbuild";

/** Style sheets that stand in a template are minified as one in a file of its own would be. */
const styleSheets = {
  name: "style-sheets",
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]src[\\/]style\.ts$/ }, async ({ path }) => {
      const [before, sheet, after] = (await readFile(path, "utf8")).split(/\/\* css \*\/ `([^`]*)`/);
      if (sheet.includes("\\"))
        throw new Error(
          `${path}: the style sheet must be without backslashes: they mean another thing in CSS`,
        );
      const { code } = await transform(sheet, { loader: "css", minify: true, charset: "utf8" });
      return { contents: before + JSON.stringify(code.trim()) + after, loader: "ts" };
    });
  },
};

function* nodesOf(part) {
  if (typeof part !== "object" || part === null) return;
  if (typeof part.type === "string") yield part;
  for (const child of Object.values(part)) yield* nodesOf(child);
}

/** Take the indentation out of tagged templates: all are Lit's. Of the space at a line's end one character stays, since it may show. */
function tighten(code) {
  const templates = [...nodesOf(parse(code, { ecmaVersion: "latest", sourceType: "module" }))]
    .filter((node) => node.type === "TaggedTemplateExpression")
    .map((node) => node.quasi.quasis)
    .filter((quasis) => !quasis.some(({ value }) => value.raw.includes("<pre"))); // every space of it shows
  return templates
    .flat()
    .sort((one, other) => other.start - one.start)
    .reduce(
      (text, { start, end, value }) =>
        text.slice(0, start) + value.raw.replace(/\s*\n\s*/g, "\n") + text.slice(end),
      code,
    );
}

const outdir = process.argv[2] ?? "../tb_batchview/static";
const { outputFiles } = await build({
  entryPoints: { index: "src/main.ts" },
  outdir,
  bundle: true,
  write: false,
  format: "esm",
  target: ["es2022"],
  minify: true,
  legalComments: "eof",
  charset: "utf8", // modules always are
  loader: { ".css": "text" },
  plugins: [styleSheets],
  conditions: ["production"], // Lit's development build warns on the console
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "warning",
});
for (const { path, text } of outputFiles) {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, tighten(text));
}
