// The layer below everything: glibc, libstdc++, certificates, the names of root and of the user that Gantry runs as. No shell,
// no package manager, nothing that can be run but the loader.
import { type Architecture, type Debian, ImageError, unpack } from './debian.ts';
import { type Entry, file, folder, link, text } from './layer.ts';

/** As in Google's distroless images, so that a volume can move between the two. */
export const USER = 65532;

/**
 * What is kept of each package: a path that begins so, and is not left out below. Time zones are not here because Node brings its
 * own (ICU), for TZ as well; gconv tables serve iconv(3), which Node does not call.
 */
const KEPT = [
  /^lib(64)?\//,
  /^usr\/lib\/[^/]+-linux-gnu\/[^/]+$/,
  /^usr\/share\/doc\/[^/]+(\/copyright)?$/,
  /^usr\/share\/ca-certificates\//,
  /^usr\/share\/common-licenses\//,
  /^usr\/lib\/os-release$/,
  /^etc\/(debian_version|os-release|ld\.so\.conf\.d\/.*)$/,
];

/** Whose scripts, run at installation, would do more than we do here: this list is what "no package manager" rests on. */
const PACKAGES = new Set(['base-files', 'ca-certificates', 'gcc-12-base', 'libc6', 'libgcc-s1', 'libstdc++6']);

export async function rootfs(debian: Debian, architecture: Architecture): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const { pin, deb } of debian.packages) {
    if (!PACKAGES.has(pin.name)) throw new ImageError(`${pin.name}: say in rootfs.ts what is kept of it`);
    entries.push(...(await unpack(deb, 'data')).filter(({ path }) => KEPT.some((kept) => kept.test(path))));
    const control = (await unpack(deb, 'control')).find(({ path }) => path === 'control');
    // Where scanners (trivy, grype) look for the packages of an image that has no dpkg.
    entries.push(file(`var/lib/dpkg/status.d/${pin.name}`, control!.bytes!));
  }
  const authorities = entries
    .filter(({ path, type }) => type === 'file' && /^usr\/share\/ca-certificates\/mozilla\/.*\.crt$/.test(path))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  if (authorities.length < 100) throw new ImageError(`only ${authorities.length} certificates in ca-certificates`);
  const bundle = authorities.map(({ bytes }) => `${bytes!().toString('latin1').trimEnd()}\n`).join('');
  const loader = entries.find(({ path }) => path.startsWith('lib64/ld-linux') || path.startsWith('lib/ld-linux'));
  if (loader === undefined) throw new ImageError(`libc6 for ${architecture} brought no loader`);
  return [
    // One file instead of 140: what update-ca-certificates(8) makes.
    ...entries.filter(({ path }) => !path.startsWith('usr/share/ca-certificates/')),
    text('etc/ssl/certs/ca-certificates.crt', bundle),
    link('etc/ssl/cert.pem', 'certs/ca-certificates.crt'),
    text('etc/passwd', `root:x:0:0:root:/root:/nologin\ngantry:x:${USER}:${USER}:Gantry:/home/gantry:/nologin\n`),
    text('etc/group', `root:x:0:\ngantry:x:${USER}:\n`),
    // glibc without this file asks DNS before /etc/hosts.
    text('etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n'),
    folder('tmp', 0o1777),
    folder('home/gantry', 0o700, USER),
    folder('etc/gantry'),
    folder('proc', 0o555),
    folder('sys', 0o555),
    folder('dev'),
    folder('run'),
    // A new volume takes over owner and mode from here, so that no one has to chown it.
    folder('data', 0o700, USER),
  ];
}
