import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';

const ROOT = new URL('../../../', import.meta.url).pathname;

// A role of one module that does what its settings say: what is tested is the process around it.
const HARNESS = `
import assert from 'node:assert';
import { runProcess } from '#platform/process.ts';
import { systemCall } from '#platform/call.ts';
import { AuthService } from '#proto/auth/v1/auth.ts';
const odd = {
  name: 'odd',
  settings: {
    'odd.how': { type: 'string', default: '', doc: '' },
    'odd.limit': { type: 'integer', default: 1, doc: '', reload: true },
  },
  async start(context) {
    const how = context.settings.string('odd.how');
    if (how === 'no start') throw new Error('Doe^John');
    if (how === 'throw later') setTimeout(() => { throw new Error('Doe^John'); }, 50);
    if (how === 'reject later') Promise.reject(new TypeError('Doe^John'));
    if (how === 'broken invariant') {
      context.serve(AuthService, { authenticate: async () => assert.fail('Doe^John'), authorize: async () => ({ allowed: true, reason: '' }) });
      context.client(AuthService).authenticate(systemCall('main', 'r'), {}).catch(() => {});
    }
    if (how === 'job') {
      context.jobs.work('q', { concurrency: 1, attemptsMax: 9, backoffMs: [0] }, async (job) => {
        context.log.info({ queue: job.queue, attempt: job.attempt }, 'job runs');
        if (job.attempt === 1) await new Promise(() => {});
      });
      await context.jobs.add({ queue: 'q', key: 'k', tenant: 'main', payload: Buffer.alloc(0) });
    }
    context.settings.onChange(() => context.log.info({ limit: context.settings.number('odd.limit') }, 'changed'));
    return {
      drain: (signal) => how === 'busy' ? new Promise(() => {}) : Promise.resolve(),
      stop: () => { if (how === 'stuck') return new Promise(() => {}); context.log.info('odd stopped'); return Promise.resolve(); },
    };
  },
};
await runProcess('odd', [odd]);
`;

interface Line {
  level: string;
  msg: string;
  [field: string]: unknown;
}

async function withDirectory(
  run: (directory: string, start: (environment?: Record<string, string>) => Run) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-process-'));
  const runs: Run[] = [];
  const start = (environment: Record<string, string> = {}) => {
    const run = new Run(directory, environment);
    runs.push(run);
    return run;
  };
  try {
    await run(directory, start);
  } finally {
    for (const { child } of runs) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await Promise.all(runs.map(({ exited }) => exited));
    rmSync(directory, { recursive: true, force: true });
  }
}

class Run {
  readonly child: ChildProcess;
  readonly lines: Line[] = [];
  stderr = '';
  readonly exited: Promise<number | NodeJS.Signals>;
  readonly #waiting = new Set<() => void>();

  constructor(directory: string, environment: Record<string, string>) {
    this.child = spawn(process.execPath, ['--input-type=module', '--eval', HARNESS], {
      cwd: ROOT,
      env: {
        PATH: process.env.PATH,
        GANTRY_CONFIG: environment.GANTRY_CONFIG ?? '',
        GANTRY_DATA_DIR: join(directory, 'data'),
        ...environment,
      },
    });
    this.child.stderr!.on('data', (chunk) => (this.stderr += chunk));
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      this.lines.push(JSON.parse(line));
      for (const look of this.#waiting) look();
    });
    this.exited = once(this.child, 'close').then(([code, signal]) => {
      for (const look of this.#waiting) look();
      return code ?? signal;
    });
  }

  said(msg: string): Promise<Line> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = this.lines.find((line) => line.msg === msg);
        const ended = this.child.exitCode !== null || this.child.signalCode !== null;
        if (!found && !ended) return;
        this.#waiting.delete(look);
        if (found) resolve(found);
        else reject(new Error(`it ended without saying "${msg}": ${JSON.stringify(this.lines)} ${this.stderr}`));
      };
      this.#waiting.add(look);
      look();
    });
  }
}

describe('one process', () => {
  test('starts, says so, and on SIGTERM drains, stops, leaves with 0; its data are for the owner only', () =>
    withDirectory(async (directory, start) => {
      const run = start();
      const ready = await run.said('ready');
      assert.equal(ready.role, 'odd');
      run.child.kill('SIGTERM');
      assert.equal(await run.exited, 0);
      assert.deepEqual(
        run.lines.map(({ msg }) => msg),
        ['ready', 'draining: what is in flight may finish, nothing new is taken', 'odd stopped', 'stopped'],
      );
      assert.equal(run.stderr, '');
      assert.equal(statSync(join(directory, 'data')).mode & 0o777, 0o700);
      const audit = readFileSync(join(directory, 'data', 'state', 'audit', 'audit.jsonl'), 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).useCase);
      assert.deepEqual(audit, ['process.start', 'process.stop']);
    }));

  test('a drain is bounded, Ctrl-C twice at once is one wish, and later a second signal ends it at once', () =>
    withDirectory(async (_directory, start) => {
      const run = start({ GANTRY_ODD_HOW: 'busy', GANTRY_PLATFORM_DRAIN_MS: '1200ms' });
      await run.said('ready');
      run.child.kill('SIGINT');
      run.child.kill('SIGINT');
      assert.equal(await run.exited, 0);
      assert.ok(run.lines.some(({ msg }) => msg === 'a module did not finish what was in flight'));

      const other = start({ GANTRY_ODD_HOW: 'busy', GANTRY_PLATFORM_DRAIN_MS: '1h' });
      await other.said('ready');
      other.child.kill('SIGTERM');
      await other.said('draining: what is in flight may finish, nothing new is taken');
      const again = setInterval(() => other.child.kill('SIGTERM'), 100);
      assert.equal(await other.exited, 1);
      clearInterval(again);
      assert.equal(other.lines.at(-1)?.msg, 'asked a second time: leaving at once');
    }));

  test('a module that does not stop does not keep the process', () =>
    withDirectory(async (_directory, start) => {
      const run = start({ GANTRY_ODD_HOW: 'stuck', GANTRY_PLATFORM_STOP_MS: '100ms' });
      await run.said('ready');
      run.child.kill('SIGTERM');
      assert.equal(await run.exited, 1);
      assert.equal(run.lines.at(-1)?.msg, 'not everything stopped in time: leaving anyway');
    }));

  for (const how of ['throw later', 'reject later', 'no start', 'broken invariant'])
    test(`crash-only: ${how} ends it with 1 and a line without the message`, () =>
      withDirectory(async (_directory, start) => {
        const run = start({ GANTRY_ODD_HOW: how });
        assert.equal(await run.exited, 1);
        // Whatever else was on its way to the log may follow it: the process leaves once its output is written.
        assert.equal(run.lines.filter(({ level }) => level === 'fatal').length, 1);
        assert.ok(!JSON.stringify(run.lines).includes('Doe') && !run.stderr.includes('Doe'));
      }));

  test('what is wrong in the configuration is said on stderr, exit code 78, before anything is touched', () =>
    withDirectory(async (directory, start) => {
      const run = start({ GANTRY_ODD_LIMIT: 'many', GANTRY_ODD_HOWW: 'x' });
      assert.equal(await run.exited, 78);
      assert.equal(
        run.stderr,
        'Gantry does not start, because of 2 things in its configuration:\n  - GANTRY_ODD_HOWW in the environment is not a setting; did you mean GANTRY_ODD_HOW?\n  - GANTRY_ODD_LIMIT: odd.limit must be a whole number\n',
      );
      assert.throws(() => statSync(join(directory, 'data')), { code: 'ENOENT' });
    }));

  test('a data directory that cannot be used is said, with what to do', () =>
    withDirectory(async (directory, start) => {
      writeFileSync(join(directory, 'file'), '');
      const run = start({ GANTRY_DATA_DIR: join(directory, 'file', 'data') });
      assert.equal(await run.exited, 78);
      assert.match(run.lines[0].msg, /the data directory .* cannot be used \(ENOTDIR\): make it writable/);
    }));

  test('a second process on the same data directory is refused; after kill -9 the next start is at once, and the job that ran runs again', () =>
    withDirectory(async (_directory, start) => {
      const first = start({ GANTRY_ODD_HOW: 'job' });
      await first.said('job runs');
      const second = start();
      assert.equal(await second.exited, 78);
      assert.match(String(second.lines[0].msg), /another Gantry process is using this data directory/);
      first.child.kill('SIGKILL');
      await first.exited;
      const third = start({ GANTRY_ODD_HOW: 'job' });
      assert.equal((await third.said('job runs')).attempt, 2);
    }));

  test('SIGHUP reads again what may change; a bad file is logged and changes nothing', () =>
    withDirectory(async (directory, start) => {
      const file = join(directory, 'gantry.yaml');
      writeFileSync(file, 'odd.limit: 1\n');
      const run = start({ GANTRY_CONFIG: file });
      await run.said('ready');
      writeFileSync(file, 'odd.limit: 2\nplatform.drainMs: 1s\n');
      run.child.kill('SIGHUP');
      assert.equal((await run.said('changed')).limit, 2);
      assert.deepEqual((await run.said('these settings differ now and need a restart to take effect')).settings, [
        'platform.drainMs',
      ]);
      appendFileSync(file, 'odd.limt: 3\n');
      run.child.kill('SIGHUP');
      const refused = await run.said('the settings could not be read again: the old ones stay in force');
      assert.match(String(refused.problems), /did you mean odd.limit/);
      run.child.kill('SIGTERM');
      assert.equal(await run.exited, 0);
    }));
});
