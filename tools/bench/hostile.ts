// A modality's rate alone, and beside peers that do everything to spoil it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Case } from './cases.ts';
import { median, send, using } from './measure.ts';
import { gantry } from './servers.ts';

const ATTACKER = join(import.meta.dirname, 'hostile.attacker.ts');

async function attack(httpPort: number, dimsePort: number): Promise<{ child: ChildProcess; stop(): Promise<string> }> {
  const child = spawn(process.execPath, [ATTACKER, JSON.stringify({ httpPort, dimsePort })], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout!.on('data', (chunk) => (text += chunk));
  const ended = once(child, 'close');
  while (!text.includes('begun')) await once(child.stdout!, 'data');
  return {
    child,
    async stop() {
      child.stdin!.end();
      await ended;
      return text.slice(text.indexOf('\n') + 1).trim();
    },
  };
}

export const hostile: Case = {
  name: 'hostile',
  title: 'One association of 0.5 MB instances, alone and beside hostile peers at both doors',
  async run({ quick, runs }) {
    const server = await gantry();
    const rates: Record<'alone' | 'beside', number[]> = { alone: [], beside: [] };
    const cpu: Record<'alone' | 'beside', number[]> = { alone: [], beside: [] };
    const count = quick ? 100 : 1_000;
    let did = '';
    try {
      const orders = (run: number) => ({
        by: 'c-store' as const,
        port: server.dimsePort,
        shape: { run, instancesPerStudy: 100, frames: 1 },
        from: 0,
        count,
        associations: 1,
      });
      await send(orders(0)); // warm
      for (let run = 1; run <= Math.max(3, runs); run++)
        for (const how of ['alone', 'beside'] as const) {
          const attackers = how === 'beside' ? await attack(server.httpPort, server.dimsePort) : undefined;
          const used = using(server.pid);
          const { instances, seconds } = await send(orders(2 * run + (attackers ? 1 : 0)));
          rates[how].push(instances / seconds);
          cpu[how].push((1_000 * used().cpuSeconds) / instances);
          if (attackers) did = await attackers.stop();
        }
    } finally {
      await server.close();
    }
    const share = median(rates.beside) / median(rates.alone);
    return {
      rows: (['alone', 'beside'] as const).map((how) => ({
        when: how === 'alone' ? 'alone' : 'beside hostile peers',
        'instances/s': Number(median(rates[how]).toPrecision(3)),
        'CPU ms of the server an instance': Number(median(cpu[how]).toPrecision(3)),
      })),
      aims: [
        {
          aim: 'A well-behaved association keeps ≥ 80 % of its rate',
          measured: `${Math.round(100 * share)} %`,
          met: share >= 0.8,
        },
      ],
      notes: [
        `The attackers share the machine's two cores with the server and the modality. In the last run they made: ${did}.`,
      ],
    };
  },
};
