// Reads an AsyncAPI document from stdin; exits with 1, and says why, if it is not valid.
// The official parser is found by NODE_PATH.
const { Parser } = require("@asyncapi/parser");

const ERROR = 0;

async function main() {
  const text = require("fs").readFileSync(0, "utf8");
  const { diagnostics } = await new Parser().parse(text);
  const errors = diagnostics.filter(({ severity }) => severity === ERROR);
  for (const { path, message } of errors) console.log(`${path.join(".")}: ${message}`);
  process.exitCode = errors.length ? 1 : 0;
}

main();
