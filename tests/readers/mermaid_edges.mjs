// Reads a flowchart by Mermaid's own parser: a JSON array an edge, [caller, callee, calls].
import fs from "fs";
import { createRequire } from "module";
import { pathToFileURL } from "url";

// Modules lie elsewhere than this file: in the directory that is the second argument.
const require = createRequire(pathToFileURL(process.argv[3] + "/"));
const { JSDOM } = require("jsdom");
globalThis.window = new JSDOM("").window;
globalThis.document = window.document;
const { default: mermaid } = await import(
  pathToFileURL(process.argv[3] + "/mermaid/dist/mermaid.core.mjs")
);
const text = fs.readFileSync(process.argv[2], "utf8");
await mermaid.parse(text);
const chart = await mermaid.mermaidAPI.getDiagramFromText(text);
const nodes = chart.db.getVertices();
// The parser keeps codes of characters in a spelling of its own until they are drawn.
const name = (id) =>
  nodes.get(id).text.replace(/ﬂ°°(\d+)¶ß/g, (_, code) => String.fromCodePoint(code));
for (const edge of chart.db.getEdges()) {
  console.log(JSON.stringify([name(edge.start), name(edge.end), Number(edge.text.split(" x")[0])]));
}
