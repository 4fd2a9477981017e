// Every verdict of a line in Node.js: live ones as they come, those between from its journal, each checked by the schema.
//   npm install && node subscribe.js VERDICTS CONTROL SCHEMA COUNT [LINE.key MINE.key_secret]
//   such as tcp://127.0.0.1:5556 tcp://127.0.0.1:5557 ../../hisir_edge/mes/verdict.schema.json 100
const fs = require("node:fs");
const zmq = require("zeromq");
const Ajv = require("ajv/dist/2020");
const addFormats = require("ajv-formats");

const [verdicts, control, schemaFile, count, serverKeyFile, keyFile] = process.argv.slice(2);
if (!count) {
  console.error("node subscribe.js VERDICTS CONTROL SCHEMA COUNT [LINE.key MINE.key_secret]");
  process.exit(2);
}
const ajv = new Ajv({ strict: false });
addFormats(ajv);
const valid = ajv.compile(JSON.parse(fs.readFileSync(schemaFile)));

const keyOf = (file, name) => fs.readFileSync(file, "utf8").match(new RegExp(`${name} = "(.{40})"`))[1];
const keys = serverKeyFile && {
  curveServerKey: keyOf(serverKeyFile, "public-key"),
  curvePublicKey: keyOf(keyFile, "public-key"),
  curveSecretKey: keyOf(keyFile, "secret-key"),
};
const sub = new zmq.Subscriber({ ...keys });
let dealer = null;
let epoch = "";
let last = 0;
let left = Number(count);

function take([topic, text, mask]) {
  const body = JSON.parse(text);
  if (!valid(body)) throw new Error(`no verdict by the schema: ${ajv.errorsText(valid.errors)}`);
  if (body.epoch !== epoch) [epoch, last] = [body.epoch, 0]; // the line has a new journal: from its first verdict on
  if (body.seq !== last + 1) return body.seq; // seen before, or one that others come before
  last = body.seq;
  console.log(`${epoch} ${last} ${mask.length}`);
  if (--left === 0) process.exit(0);
  return last;
}

// The number that the line is at, by its heartbeat: of what was lost and is followed by nothing, it alone tells.
function told(text) {
  const beat = JSON.parse(text);
  if (beat.epoch !== epoch) [epoch, last] = [beat.epoch, 0];
  return beat.seq;
}

// What the journal has behind the last; nothing while the line does not answer.
async function replay() {
  if (!dealer) {
    dealer = new zmq.Dealer({ ...keys, receiveTimeout: 2000, linger: 0 });
    dealer.connect(control);
  }
  try {
    await dealer.send(JSON.stringify({ do: "replay", epoch, after: last }));
    const [answer, ...missed] = await dealer.receive();
    const { ok, again } = JSON.parse(answer);
    if (!ok && !again) throw new Error(answer.toString());
    if (!ok) await new Promise((resolve) => setTimeout(resolve, 100)); // not now: the same request may be taken later
    return Array.from({ length: missed.length / 3 }, (_, n) => missed.slice(3 * n, 3 * n + 3));
  } catch (error) {
    if (error.code !== "EAGAIN") throw error;
    dealer.close(); // should its answer still come, it is not to be taken for the next one's
    dealer = null;
    return [];
  }
}

async function main() {
  sub.connect(verdicts);
  sub.subscribe("verdict/", "heartbeat/");
  for await (const frames of sub) {
    const seq = frames[0].toString().startsWith("heartbeat/") ? told(frames[1]) : take(frames);
    while (last < seq) {
      for (const verdict of await replay()) take(verdict);
    }
  }
}

main().catch((error) => {
  console.error(`${error.message}`);
  process.exit(1);
});
