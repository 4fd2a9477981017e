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

// Whether the journal is to be asked. What a replay has is the next one, also where numbers between were deleted for
// their age, and its epoch is the present one; a live message may be late, of an epoch that is over.
function take([topic, text, mask], replayed = false) {
  const body = JSON.parse(text);
  if (!valid(body)) throw new Error(`no verdict by the schema: ${ajv.errorsText(valid.errors)}`);
  if (replayed && body.epoch !== epoch) [epoch, last] = [body.epoch, 0];
  if (body.epoch !== epoch) return true;
  if (replayed ? body.seq <= last : body.seq !== last + 1) return body.seq > last;
  last = body.seq;
  console.log(`${epoch} ${last} ${mask.length}`);
  if (--left === 0) process.exit(0);
  return false;
}

// A heartbeat: of what was lost and is followed by nothing it alone tells.
function told(text) {
  const beat = JSON.parse(text);
  return beat.seq > 0 && (beat.epoch !== epoch || beat.seq > last);
}

// What the journal has behind the last: how many; 0 is the end, or a refusal (the next heartbeat leads here again).
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
    for (let n = 0; n < missed.length; n += 3) take(missed.slice(n, n + 3), true);
    return missed.length / 3;
  } catch (error) {
    if (error.code !== "EAGAIN") throw error;
    dealer.close(); // should its answer still come, it is not to be taken for the next one's
    dealer = null;
    return -1;
  }
}

async function main() {
  sub.connect(verdicts);
  sub.subscribe("verdict/", "heartbeat/");
  for await (const frames of sub) {
    const ask = frames[0].toString().startsWith("heartbeat/") ? told(frames[1]) : take(frames);
    while (ask && (await replay()) !== 0);
  }
}

main().catch((error) => {
  console.error(`${error.message}`);
  process.exit(1);
});
