// server.js PORT echo|bcast HEAD [PROCESSES]: the echo and broadcast server in Node.js.
'use strict';
const cluster = require('cluster');
const net = require('net');

const [port, mode, head, processes] = [+process.argv[2], process.argv[3], +process.argv[4], +(process.argv[5] || 1)];

// Calls deliver with each whole message at the start of data; returns what is left.
function messages(data, deliver) {
  let at = 0;
  while (data.length - at >= head) {
    const end = at + head + data.readUIntBE(at, head);
    if (end > data.length) break;
    deliver(data.subarray(at + head, end));
    at = end;
  }
  return at < data.length ? data.subarray(at) : null;
}

function framed(message) {
  const frame = Buffer.allocUnsafe(head + message.length);
  frame.writeUIntBE(message.length, 0, head);
  message.copy(frame, head);
  return frame;
}

function serve() {
  const sockets = new Set();
  const server = net.createServer({ noDelay: true }, (socket) => {
    let rest = null;
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', (data) => {
      if (head === 0) {
        socket.write(data);
        return;
      }
      if (rest) data = Buffer.concat([rest, data]);
      if (mode === 'bcast') {
        rest = messages(data, (message) => {
          const frame = framed(message);
          for (const s of sockets) s.write(frame);
        });
      } else {
        socket.cork(); // the replies to one packet leave together
        rest = messages(data, (message) => socket.write(framed(message)));
        socket.uncork();
      }
    });
  });
  server.listen({ port, host: '127.0.0.1', backlog: 4096 });
}

if (processes > 1 && cluster.isPrimary) {
  cluster.schedulingPolicy = cluster.SCHED_NONE; // each accepts by itself
  for (let i = 0; i < processes; i++) cluster.fork();
} else {
  serve();
}
