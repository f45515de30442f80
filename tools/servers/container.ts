// The same server from its official image, by testcontainers: on the host's network and with the host's folders, so that
// ports, configuration and data are as they are for a process. What is left when we die, testcontainers' reaper removes.
import { mkdirSync } from 'node:fs';
import { getuid } from 'node:process';
import { type LaunchedNode, type ServerSpec, untilReady } from './node.ts';

export async function launchContainer(spec: ServerSpec): Promise<LaunchedNode> {
  // Heavy, and of no use where Docker is not.
  const { GenericContainer, getContainerRuntimeClient } = await import('testcontainers');
  const { image, args, env = {}, folders, entrypoint } = spec.docker;
  for (const folder of folders) mkdirSync(folder, { recursive: true });
  const chunks: Buffer[] = [];
  let definition = new GenericContainer(image)
    .withNetworkMode('host')
    .withBindMounts(folders.map((folder) => ({ source: folder, target: folder, mode: 'rw' })))
    // Group 0, as OpenShift does it: the images are made for any user in that group.
    .withUser(`${getuid?.() ?? 0}:0`)
    .withEnvironment(env)
    // Ours waits for an answer, below; and it must outlive a kill, to be started again.
    .withAutoRemove(false)
    .withLogConsumer((stream) => stream.on('data', (chunk: Buffer | string) => chunks.push(Buffer.from(chunk))));
  if (args.length > 0) definition = definition.withCommand(args);
  if (entrypoint !== undefined) definition = definition.withEntrypoint(entrypoint);
  const started = await definition.start();
  const { container: runtime } = await getContainerRuntimeClient();
  const container = runtime.getById(started.getId());

  let [running, pid] = [true, 0];
  const log = () => Buffer.concat(chunks).toString('utf8');
  async function look() {
    const { State } = await runtime.inspect(container);
    running = State.Running;
    if (State.Pid !== 0) pid = State.Pid;
  }
  async function signal(name: string) {
    await look();
    if (running) await container.kill({ signal: name });
  }
  async function kill() {
    await look();
    if (!running) return;
    await container.kill({ signal: 'SIGKILL' });
    await container.wait();
    running = false;
  }
  async function ready() {
    await look();
    await untilReady(
      {
        ...spec,
        ready: async () => {
          await look();
          return running && (await spec.ready());
        },
      },
      () => running,
      log,
    );
  }
  async function remove() {
    await started.stop({ timeout: 0, remove: true, removeVolumes: true });
  }
  try {
    await ready();
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    name: spec.name,
    url: spec.url,
    get pid() {
      return pid;
    },
    get running() {
      return running;
    },
    kill,
    stop: () => signal('SIGSTOP'),
    cont: () => signal('SIGCONT'),
    async restart() {
      await kill();
      await container.start();
      running = true;
      await ready();
    },
    log,
    async ended() {
      await look();
      if (running) await container.wait();
      running = false;
    },
    async end() {
      await signal('SIGCONT');
      if (running) await container.stop({ t: END_SECONDS });
      running = false;
    },
    remove,
  };
}

const END_SECONDS = 20;
