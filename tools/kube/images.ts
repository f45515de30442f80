// The images of a cluster without a registry: Gantry's own, and the servers beside it from the programs that tools/servers builds.
import { execFile, execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { ensureBuilt, type Part } from '../servers/parts.ts';

const CHECKOUT = resolve(import.meta.dirname, '../..');
/** Archives of the servers, by the part that they are made of. */
const KEPT = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'gantry/kube-images');
const execute = promisify(execFile);

/** Builds gantry:`tag` and returns the archive. Of a commit when one is given, and saying another version than it has. */
export async function gantryImage(
  folder: string,
  tag: string,
  options: { commit?: string; version?: string } = {},
): Promise<string> {
  const args = ['--name', `gantry:${tag}`, '--out', folder];
  if (options.commit) args.push('--commit', options.commit);
  if (options.version) args.push('--version', options.version);
  await execute(process.execPath, [join(CHECKOUT, 'tools/image/main.ts'), ...args]);
  return join(folder, `gantry-${tag}-${process.arch === 'arm64' ? 'arm64' : 'amd64'}.tar`);
}

interface Server {
  part: Part;
  name: string;
  config: { Entrypoint?: string[]; WorkingDir?: string };
  /** Puts what is needed of the part's folder into the image's tree. */
  lay(home: string, tree: string): void;
}

const staticProgram = (part: 'nats' | 'versitygw', program: string): Server => ({
  part,
  name: program,
  config: { Entrypoint: [`/bin/${program}`] },
  lay: (home, tree) => cpSync(join(home, program), join(tree, 'bin', program)),
});

const HEAP = '512m';
/** Where the chart mounts the volume of a bundled server. */
const DATA = '/data';
/** What starts our build of Elasticsearch, as tools/servers/elasticsearch/run.sh does; the AOT cache holds for these very options. */
export const ELASTICSEARCH_COMMAND = [
  ...['java/bin/java', `-Xms${HEAP}`, `-Xmx${HEAP}`, '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'],
  ...['-XX:AOTCache=node.aot', '-Xlog:aot*=error,cds*=error'],
  ...[`-Djava.io.tmpdir=${DATA}`, '-Des.path.home=/es', '-Dlog4j2.disable.jmx=true'],
  ...['-Dio.netty.noUnsafe=true', '-Dio.netty.noKeySetOptimization=true', '-Dio.netty.recycler.maxCapacityPerThread=0'],
  ...['--add-opens=java.base/java.io=ALL-UNNAMED', '--enable-native-access=ALL-UNNAMED'],
  ...['-Dorg.elasticsearch.nativeaccess.enableVectorLibrary=false', '-cp', 'lib/*', 'gantry.launch.EsNode'],
];

const SERVERS: readonly Server[] = [
  staticProgram('nats', 'nats-server'),
  staticProgram('versitygw', 'versitygw'),
  {
    part: 'elasticsearch',
    name: 'elasticsearch',
    config: { WorkingDir: '/es' },
    lay(home, tree) {
      for (const part of ['java', 'lib', 'modules', 'config', 'node.aot'])
        cpSync(join(home, part), join(tree, 'es', part), { recursive: true, dereference: true });
      const settings = {
        'discovery.type': 'single-node',
        'network.host': '0.0.0.0',
        'path.data': join(DATA, 'es'),
        'path.logs': join(DATA, 'logs'),
      };
      writeFileSync(join(tree, 'es/config/elasticsearch.yml'), JSON.stringify(settings)); // JSON is YAML
      // Java is linked against the C library of this machine: that goes with it, and the names of the one user.
      const loader = execFileSync('ldd', [join(home, 'java/bin/java')], { encoding: 'utf8' });
      const [libc] = /\/\S+\/libc\.so\.6/.exec(loader) ?? [];
      const [linker] = /\/lib\S*\/ld-linux\S+/.exec(loader) ?? [];
      if (libc === undefined || linker === undefined) throw new Error(`no C library for Java: ${loader}`);
      const libraries = ['libc.so.6', 'libm.so.6', 'libdl.so.2', 'librt.so.1', 'libpthread.so.0', 'libnss_dns.so.2'];
      for (const file of [linker, ...libraries.map((name) => join(dirname(libc), name))]) {
        mkdirSync(join(tree, dirname(file)), { recursive: true });
        copyFileSync(file, join(tree, file)); // what a link leads to
      }
      mkdirSync(join(tree, 'etc'), { recursive: true });
      writeFileSync(join(tree, 'etc/passwd'), 'gantry:x:65532:65532::/data:/nologin\n');
    },
  },
];

/** registry.local/nats-server:1, versitygw:1 and elasticsearch:1 as archives, made once and kept in the cache. */
export async function serverImages(): Promise<string[]> {
  const archives: string[] = [];
  mkdirSync(KEPT, { recursive: true });
  for (const { part, name, config, lay } of SERVERS) {
    const home = await ensureBuilt(part);
    const archive = join(KEPT, `${basename(home)}.tar`);
    archives.push(archive);
    if (existsSync(archive)) continue;
    const work = mkdtempSync(join(KEPT, 'making-'));
    const tree = join(work, 'tree');
    for (const place of ['bin', 'tmp']) mkdirSync(join(tree, place), { recursive: true });
    lay(home, tree);
    const made = join(work, 'image.tar');
    const maker = join(import.meta.dirname, 'mkimage.py');
    await execute('python3', [maker, made, `registry.local/${name}:1`, tree, JSON.stringify(config)]);
    renameSync(made, archive);
    rmSync(work, { recursive: true });
  }
  return archives;
}
