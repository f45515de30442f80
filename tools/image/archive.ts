// Layers to one file that is an OCI image layout (image-spec v1.1) and what `docker save` writes, both at once, so that `docker load`,
// `ctr images import`, skopeo and podman each find what they look for.
import { hash } from 'node:crypto';
import { createReadStream, createWriteStream, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { pack } from 'tar-stream';
import { HOME, SBOM, VIEWER } from './contents.ts';
import type { Architecture } from './debian.ts';
import type { Layer } from './layer.ts';
import type { Source } from './options.ts';
import { USER } from './rootfs.ts';

export interface ImageInput {
  /** gantry:0.1.0, or with a registry before it. */
  name: string;
  architecture: Architecture;
  source: Source;
  layers: readonly Layer[];
}

export const TITLE = 'Gantry';
const DESCRIPTION = 'An open PACS: a DICOM archive that scales on Kubernetes';

/** What deploy/Dockerfile sets too; a test compares the two. */
export const ENVIRONMENT: Record<string, string> = {
  PATH: '/usr/local/bin',
  NODE_ENV: 'production',
  // The system's certificates beside Node's own: a hospital mounts its authority over /etc/ssl/certs/ca-certificates.crt.
  NODE_USE_SYSTEM_CA: '1',
  GANTRY_DATA_DIR: '/data',
  // Inside a container every address is this container's; what reaches it is what the host publishes.
  GANTRY_HTTP_HOST: '0.0.0.0',
  GANTRY_DIMSE_HOST: '0.0.0.0',
  GANTRY_PLATFORM_HEALTH_HOST: '0.0.0.0',
  GANTRY_HTTP_VIEWER_DIR: `/${VIEWER}`,
};

export const ENTRYPOINT = ['/usr/local/bin/node', `/${HOME}/services/main.ts`];
export const PORTS = ['8080/tcp', '11112/tcp'];

/** For `docker ps`: roles without HTTP answer where platform.healthPort says. Kubernetes has probes of its own. */
export const HEALTH = [
  '/usr/local/bin/node',
  '-e',
  "fetch('http://127.0.0.1:'+(process.env.GANTRY_PLATFORM_HEALTH_PORT||process.env.GANTRY_HTTP_PORT||8080)+'/readyz').then(r=>process.exit(r.ok?0:1),()=>process.exit(1))",
];
const SECOND = 1e9; // the format counts nanoseconds

const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const digestOf = (bytes: Buffer) => `sha256:${hash('sha256', bytes)}`;
const blobPath = (digest: string) => `blobs/sha256/${digest.slice('sha256:'.length)}`;

/** gantry:0.1.0 as containerd writes it: docker.io/library/gantry:0.1.0. */
export function fullName(name: string): string {
  const [first = '', ...rest] = name.split('/');
  if (rest.length === 0) return `docker.io/library/${name}`;
  return /[.:]|^localhost$/.test(first) ? name : `docker.io/${name}`;
}

export function describe({ name, architecture, source, layers }: ImageInput) {
  const created = new Date(source.epoch * 1000).toISOString();
  const labels = {
    'org.opencontainers.image.title': TITLE,
    'org.opencontainers.image.description': DESCRIPTION,
    'org.opencontainers.image.version': source.version,
    'org.opencontainers.image.revision': source.revision,
    'org.opencontainers.image.created': created,
    'org.opencontainers.image.licenses': 'Apache-2.0',
    'dev.gantry.sbom': `/${SBOM}`,
  };
  const config = json({
    architecture,
    ...(architecture === 'arm64' ? { variant: 'v8' } : {}),
    os: 'linux',
    created,
    config: {
      User: `${USER}:${USER}`,
      ExposedPorts: Object.fromEntries(PORTS.map((port) => [port, {}])),
      Env: Object.entries(ENVIRONMENT).map(([key, value]) => `${key}=${value}`),
      Entrypoint: ENTRYPOINT,
      Cmd: ['all'],
      Volumes: { '/data': {} },
      WorkingDir: '/etc/gantry',
      Labels: labels,
      StopSignal: 'SIGTERM',
      Healthcheck: {
        Test: ['CMD', ...HEALTH],
        Interval: 30 * SECOND,
        Timeout: 5 * SECOND,
        StartPeriod: 60 * SECOND,
        Retries: 3,
      },
    },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map((layer) => ({ created, created_by: `make image: ${layer.name}` })),
  });
  const manifest = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf(config), size: config.length },
    layers: layers.map(({ digest, size }) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest,
      size,
    })),
    annotations: labels,
  });
  const index = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [
      {
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        digest: digestOf(manifest),
        size: manifest.length,
        platform: { architecture, os: 'linux', ...(architecture === 'arm64' ? { variant: 'v8' } : {}) },
        annotations: {
          'io.containerd.image.name': fullName(name),
          'org.opencontainers.image.ref.name': name.slice(name.lastIndexOf(':') + 1),
        },
      },
    ],
  });
  const docker = json([
    {
      Config: blobPath(digestOf(config)),
      RepoTags: [name],
      Layers: layers.map(({ digest }) => blobPath(digest)),
    },
  ]);
  return { config, manifest, index, docker, digest: digestOf(manifest) };
}

/** Writes the archive whole or not at all; returns the digest that a registry would give it. */
export async function writeArchive(input: ImageInput, path: string): Promise<string> {
  const { config, manifest, index, docker, digest } = describe(input);
  mkdirSync(dirname(path), { recursive: true });
  const work = mkdtempSync(join(dirname(path), '.image.'));
  try {
    const stream = pack();
    const written = pipeline(stream, createWriteStream(join(work, 'image.tar')));
    const mtime = new Date(0);
    for (const [name, bytes] of [
      ['oci-layout', json({ imageLayoutVersion: '1.0.0' })],
      ['index.json', index],
      ['manifest.json', docker],
      [blobPath(digestOf(config)), config],
      [blobPath(digest), manifest],
    ] as const)
      stream.entry({ name, mtime, mode: 0o644, size: bytes.length }, bytes);
    for (const layer of input.layers)
      await pipeline(
        createReadStream(layer.path),
        stream.entry({ name: blobPath(layer.digest), mtime, mode: 0o644, size: layer.size }),
      );
    stream.finalize();
    await written;
    renameSync(join(work, 'image.tar'), path);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return digest;
}
