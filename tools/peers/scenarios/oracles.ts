// The same questions asked by programs that others wrote: DCMTK, pynetdicom, dicomweb-client, dcmjs-dimse.
// Where they are not installed (tools/setup/peers.ts) the scenario is skipped and says so; with CI=true it fails.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { pythonWithPynetdicom, requirePeer, without } from '../../setup/peers.ts';
import { TITLES } from './deployment.ts';
import type { Sent } from './material.ts';
import { assertFiles, eventuallyCounted, type Scene } from './scene.ts';
import { pathOf } from './web.ts';

const run = promisify(execFile);

export function oracles(the: () => Scene): void {
  describe('DCMTK', { skip: without('echoscu', 'storescu', 'findscu', 'movescu', 'getscu', 'storescp') }, () => {
    let folder: string;
    let sent: Sent[];
    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'gantry-scenario-'));
      sent = the().makeSeries(3);
      assert.equal((await the().web.stow(sent.map(({ part10 }) => part10))).status, 200);
      await eventuallyCounted(the().web, sent[0]!.study, 3);
    });
    after(() => rmSync(folder, { recursive: true, force: true }));

    const fresh = (name: string) => mkdtempSync(join(folder, `${name}-`));
    const files = (dir: string) => readdirSync(dir).map((name) => readFileSync(join(dir, name)));
    const tool = async (program: string, ...args: string[]) => {
      const { dimse } = the().deployment;
      const door = ['-aet', TITLES.sender, '-aec', dimse.aeTitle, dimse.host, String(dimse.port)];
      const at = args.indexOf('--');
      const [before, behind] = at < 0 ? [args, []] : [args.slice(0, at), args.slice(at + 1)];
      await run(requirePeer(program), [...before, ...door, ...behind], {
        env: { ...process.env, TCP_NODELAY: '1' },
      }).catch((error: { code: number; stdout: string; stderr: string }) =>
        assert.fail(`${program} ended with ${error.code}\n${error.stdout}\n${error.stderr}`),
      );
    };
    const keys = (study: string) => ['-k', '0008,0052=STUDY', '-k', `0020,000d=${study}`];

    test('echoscu, findscu, getscu', async () => {
      const { study } = sent[0]!;
      await tool('echoscu', '--repeat', '5');
      const [found, got] = [fresh('found'), fresh('got')];
      await tool('findscu', '-S', ...keys(study), '-X', '-od', found);
      assert.equal(files(found).length, 1);
      await tool('getscu', '-S', ...keys(study), '+B', '-od', got);
      assertFiles(files(got), sent);
    });

    test('storescu: what it sent comes back', async () => {
      const [dir, more] = [fresh('send'), the().makeSeries(3)];
      for (const [n, { part10 }] of more.entries()) writeFileSync(join(dir, `${n}.dcm`), part10);
      await tool('storescu', '+sd', '--', dir);
      await eventuallyCounted(the().web, more[0]!.study, 3);
      assertFiles(await the().web.wado(pathOf({ study: more[0]!.study })), more);
    });

    test('movescu, to storescp where our receiver listens', async () => {
      const into = fresh('moved');
      const { receiver: address } = the().deployment;
      await the().receiver.lend(async () => {
        const options = ['+xa', '+B', '-od', into, String(address.port)];
        const child = spawn(requirePeer('storescp'), options, { stdio: 'ignore' });
        const gone = once(child, 'exit');
        try {
          while (!(await listens(address.port))) assert.equal(child.exitCode, null, 'storescp ended');
          await tool('movescu', '-S', ...keys(sent[0]!.study), '-aem', address.aeTitle);
          assertFiles(files(into), sent);
        } finally {
          child.kill('SIGKILL');
          await gone;
        }
      });
    });
  });

  test('pynetdicom and dicomweb-client (Python), each with what the other stored', {
    skip: without('pynetdicom'),
  }, async () => {
    const { deployment } = the();
    const { study } = the().make();
    const child = spawn(pythonWithPynetdicom(), [join(import.meta.dirname, '../python/scenario.py')]);
    child.stdin.end(
      JSON.stringify({
        http: deployment.http,
        token: deployment.token,
        host: deployment.dimse.host,
        port: deployment.dimse.port,
        called: deployment.dimse.aeTitle,
        calling: TITLES.same,
        study,
      }),
    );
    const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    assert.equal(code, 0, said);
  });

  test('dcmjs-dimse: C-ECHO and C-FIND', async () => {
    const { deployment, web } = the();
    const sent = the().makeSeries(2);
    assert.equal((await web.stow(sent.map(({ part10 }) => part10))).status, 200);
    await eventuallyCounted(web, sent[0]!.study, 2);
    const dcmjs = createRequire(import.meta.url)('dcmjs-dimse');
    dcmjs.log.setLevel('error');
    const answers: { status: number; study: unknown }[] = [];
    const client = new dcmjs.Client();
    for (const request of [
      new dcmjs.requests.CEchoRequest(),
      dcmjs.requests.CFindRequest.createStudyFindRequest({ StudyInstanceUID: sent[0]!.study }),
    ]) {
      request.on('response', (response: DcmjsResponse) =>
        answers.push({ status: response.getStatus(), study: response.getDataset()?.getElements().StudyInstanceUID }),
      );
      client.addRequest(request);
    }
    const ended = once(client, 'closed');
    const { host, port, aeTitle } = deployment.dimse;
    client.send(host, port, TITLES.sender, aeTitle);
    await ended;
    assert.deepEqual(answers, [
      { status: 0, study: undefined },
      { status: 0xff00, study: sent[0]!.study },
      { status: 0, study: undefined },
    ]);
  });
}

interface DcmjsResponse {
  getStatus(): number;
  getDataset(): { getElements(): Record<string, unknown> } | undefined;
}

/** One try, and a pause where nobody was there. */
async function listens(port: number): Promise<boolean> {
  const socket = net.connect({ host: '127.0.0.1', port });
  const open = await new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => setTimeout(resolve, 20, false));
  });
  socket.destroy();
  return open;
}
