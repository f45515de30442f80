// Who is measured: Gantry as `make up` starts it, and its peers, each with a directory that is removed after.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, startServer } from '../peers/server.ts';

export interface Subject {
  readonly name: 'Gantry' | 'Orthanc' | 'storescp' | 'nginx';
  readonly pid: number;
  readonly dimsePort: number;
  readonly httpPort: number;
  /** Path of DICOMweb's root. */
  readonly dicomWeb: string;
  /** Flushes of the archive so far, where it counts them. */
  flushes(): Promise<number | undefined>;
  close(): Promise<void>;
}

const nobody = async (): Promise<undefined> => undefined;

async function listening(port: number, child: ChildProcess): Promise<void> {
  for (const until = Date.now() + 30_000; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const socket = connectTcp(port, '127.0.0.1');
    const outcome = await Promise.race([
      once(socket, 'connect').then(() => true),
      once(socket, 'error').then(() => false),
    ]).catch(() => false); // refused: not there yet
    socket.destroy();
    if (outcome) return;
    if (child.exitCode !== null || Date.now() > until) throw new Error(`nothing listens on ${port}`);
  }
}

async function started(child: ChildProcess, port: number, directory: string): Promise<() => Promise<void>> {
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await listening(port, child);
  return async () => {
    child.kill('SIGTERM');
    const patience = setTimeout(() => child.kill('SIGKILL'), 20_000);
    await ended;
    clearTimeout(patience);
    rmSync(directory, { recursive: true, force: true });
  };
}

const DEBIAN_SBIN = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin`, TCP_NODELAY: '1' };

export async function gantry(): Promise<Subject> {
  const server = await startServer();
  return {
    name: 'Gantry',
    pid: server.process.pid!,
    dimsePort: server.dimsePort,
    httpPort: server.httpPort,
    dicomWeb: '/dicom-web',
    async flushes() {
      const text = await (await fetch(`${server.origin}/metrics`)).text();
      const lines = text.split('\n').filter((line) => line.startsWith('gantry_storage_flushes_total'));
      return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
    },
    close: () => server.close(),
  };
}

/** Orthanc as Debian ships it, its files flushed (its default), open to everyone. */
export async function orthanc(): Promise<Subject> {
  const directory = mkdtempSync(join(tmpdir(), 'bench-orthanc-'));
  const [dimsePort, httpPort] = [await freePort(), await freePort()];
  const configuration = {
    Name: 'ORTHANC',
    StorageDirectory: join(directory, 'storage'),
    IndexDirectory: join(directory, 'index'),
    Plugins: ['/usr/share/orthanc/plugins/libOrthancDicomWeb.so'],
    HttpPort: httpPort,
    DicomPort: dimsePort,
    DicomAet: 'ORTHANC',
    DicomCheckCalledAet: false,
    DicomAlwaysAllowStore: true,
    AuthenticationEnabled: false,
    RemoteAccessAllowed: false,
    TcpNoDelay: true,
    SyncStorageArea: true,
    DicomWeb: { Enable: true, Root: '/dicom-web/', StudiesMetadata: 'Full', SeriesMetadata: 'Full' },
  };
  writeFileSync(join(directory, 'orthanc.json'), JSON.stringify(configuration));
  const child = spawn('Orthanc', [join(directory, 'orthanc.json')], { env: DEBIAN_SBIN, stdio: 'ignore' });
  const close = await started(child, httpPort, directory);
  return { name: 'Orthanc', pid: child.pid!, dimsePort, httpPort, dicomWeb: '/dicom-web', flushes: nobody, close };
}

/** DCMTK's receiver: no index, no flush. The floor of what a C-STORE costs in C++. */
export async function storescp(): Promise<Subject> {
  const directory = mkdtempSync(join(tmpdir(), 'bench-storescp-'));
  const dimsePort = await freePort();
  const child = spawn('storescp', ['--fork', '+B', '-od', directory, String(dimsePort)], {
    env: DEBIAN_SBIN,
    stdio: 'ignore',
  });
  const close = await started(child, dimsePort, directory);
  return { name: 'storescp', pid: child.pid!, dimsePort, httpPort: 0, dicomWeb: '', flushes: nobody, close };
}

/** nginx, one worker, plain files of the given sizes as /<name>. */
export async function nginx(files: Record<string, number>): Promise<Subject> {
  const directory = mkdtempSync(join(tmpdir(), 'bench-nginx-'));
  mkdirSync(join(directory, 'www'));
  for (const [name, bytes] of Object.entries(files))
    execFileSync('sh', ['-c', `head -c ${bytes} /dev/urandom > '${join(directory, 'www', name)}'`]);
  const httpPort = await freePort();
  const configuration = `
daemon off; master_process off; pid ${directory}/pid; error_log ${directory}/error.log;
events { worker_connections 64; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy; fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi; scgi_temp_path ${directory}/scgi;
  server { listen 127.0.0.1:${httpPort}; root ${directory}/www; }
}`;
  writeFileSync(join(directory, 'nginx.conf'), configuration);
  const child = spawn('nginx', ['-c', join(directory, 'nginx.conf'), '-e', join(directory, 'error.log')], {
    env: DEBIAN_SBIN,
    stdio: 'ignore',
  });
  const close = await started(child, httpPort, directory);
  return { name: 'nginx', pid: child.pid!, dimsePort: 0, httpPort, dicomWeb: '', flushes: nobody, close };
}
