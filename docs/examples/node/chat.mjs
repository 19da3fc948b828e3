// Streams the answer to one prompt from qwend, written from docs/protocol.md alone.
//
//     npm install
//     node chat.mjs /run/qwend/qwend.sock "Why is the sky blue?"
//
// The answer goes to standard output as it comes; Ctrl-C cancels it. Exit status: 0 done,
// 1 the request or the connection failed, 2 usage.

import net from "node:net";
import { decode, encode } from "@msgpack/msgpack";

const LENGTH_BYTES = 4;
const FRAME_BYTES = 1024 * 1024; // the most that a payload from the daemon has

function frame(message) {
  const payload = encode(message);
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32BE(payload.length);
  return Buffer.concat([length, payload]);
}

// Cuts the byte stream into messages, wherever the chunks begin and end.
async function* messages(socket) {
  let held = Buffer.alloc(0);
  for await (const chunk of socket) {
    held = Buffer.concat([held, chunk]);
    while (held.length >= LENGTH_BYTES) {
      const length = held.readUInt32BE(0);
      if (length > FRAME_BYTES) throw new Error(`the daemon sent a frame of ${length} bytes`);
      if (held.length < LENGTH_BYTES + length) break;
      yield decode(held.subarray(LENGTH_BYTES, LENGTH_BYTES + length));
      held = held.subarray(LENGTH_BYTES + length);
    }
  }
  throw new Error("the daemon closed the connection before the answer was complete");
}

async function chat(path, prompt) {
  const socket = net.connect(path);
  const send = (message) => socket.write(frame(message));
  const id = 1;
  process.on("SIGINT", () => send({ op: "cancel", id }));

  send({ op: "hello", protocol: "qwend/1", client: "example chat.mjs" });
  send({ op: "chat", id, messages: [{ role: "user", content: prompt }] });

  for await (const message of messages(socket)) {
    switch (message.op) {
      case "token":
        process.stdout.write(message.text);
        break;
      case "done": {
        const { usage, timings } = message;
        process.stdout.write("\n");
        console.error(
          `[${message.finish_reason}: ${usage.completion_tokens} tokens,` +
            ` the first after ${timings.ttft_s.toFixed(2)} s]`,
        );
        return; // leaving the loop closes the socket
      }
      case "error":
        throw new Error(`${message.message} (${message.code})`);
      // welcome, accepted, progress and goaway need no answer.
    }
  }
}

const [path, prompt] = process.argv.slice(2);
if (path === undefined || prompt === undefined) {
  console.error("usage: node chat.mjs SOCKET PROMPT");
  process.exitCode = 2;
} else {
  try {
    await chat(path, prompt);
  } catch (error) {
    console.error(`chat.mjs: ${error.message}`);
    process.exitCode = 1;
  }
}
