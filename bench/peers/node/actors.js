// actors.js BENCH AMOUNT: worker threads and their message ports, the isolated actors that Node.js has. A worker is far too
// heavy for the benchmarks with many contexts, so there are only those with few.
'use strict';
const { Worker, MessageChannel, isMainThread, workerData } = require('worker_threads');
const now = () => Number(process.hrtime.bigint()) / 1e9;
const result = (name, x) => console.log(`${name} ${x.toFixed(6)}`);
const rates = (count, seconds) => { result('rate', count / seconds); result('count', count); };
const actor = (role, port) => new Worker(__filename, { workerData: { role, port }, transferList: [port] });

const roles = {
  echo(port) {
    port.on('message', (value) => port.postMessage(value));
  },
  producer(port) {
    port.on('message', ({ to, n }) => {
      for (let i = 0; i < n; i++) to.postMessage(i);
      to.close();
    });
  },
  consumer(port) {
    let count = 0;
    port.on('message', ({ from, n }) => {
      from.on('message', () => { if (++count === n) { count = 0; port.postMessage('done'); } });
    });
  },
};

function calls(seconds, value) {
  const { port1, port2 } = new MessageChannel();
  actor('echo', port2);
  let count = 0, start;
  port1.on('message', () => {
    start = start || now(); // the first reply tells that the worker is up
    if (count % 200 === 0 && now() - start >= seconds) {
      rates(count, now() - start);
      process.exit(0);
    }
    count++;
    port1.postMessage(value);
  });
  port1.postMessage(value);
}

const benches = {
  pingpong: (seconds) => calls(seconds, 1),
  table: (seconds) => calls(seconds, { id: 1, name: 'abc', pos: [1, 2, 3] }),
  async flood(seconds) {
    const EACH = 250000;
    const c = new MessageChannel(), producers = [];
    actor('consumer', c.port2);
    for (let i = 0; i < 2; i++) {
      const p = new MessageChannel();
      actor('producer', p.port2);
      producers.push(p.port1);
    }
    let count = 0;
    const start = now();
    do {
      const done = new Promise((resolve) => c.port1.once('message', resolve));
      for (const p of producers) {
        const { port1, port2 } = new MessageChannel();
        c.port1.postMessage({ from: port2, n: 2 * EACH }, [port2]);
        p.postMessage({ to: port1, n: EACH }, [port1]);
      }
      await done;
      count += 2 * EACH;
    } while (now() - start < seconds);
    rates(count, now() - start);
    process.exit(0);
  },
  timers(n) {
    const late = [], cpu = process.cpuUsage(), start = now();
    for (let i = 1; i <= n; i++) {
      const ms = 1000 + (i * 7919) % 1000 + 1;
      const due = now() + ms / 1e3;
      setTimeout(() => {
        late.push((now() - due) * 1e3);
        if (late.length < n) return;
        const used = process.cpuUsage(cpu);
        result('cpu_us', (used.user + used.system) / n);
        late.sort((a, b) => a - b);
        result('late_p50_ms', late[Math.ceil(n * 0.5) - 1]);
        result('late_p99_ms', late[Math.ceil(n * 0.99) - 1]);
        result('late_max_ms', late[n - 1]);
      }, ms);
    }
    rates(n, now() - start);
  },
};

if (isMainThread) {
  const [bench, amount] = process.argv.slice(2);
  if (!benches[bench]) {
    console.error(`no such benchmark: ${bench}`);
    process.exit(2);
  }
  benches[bench](+amount);
} else {
  roles[workerData.role](workerData.port);
}
