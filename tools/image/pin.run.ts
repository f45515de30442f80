// node tools/image/pin.run.ts: writes pins.json anew, with what Debian signs for today and the Node of package-lock.json. Run it when
// `make image` says that a pinned package is gone, or a security update is out; look at the change, and commit it.
import { execFileSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Apt, ARCHITECTURES, PINS_FILE, type Pin, type Pins, readPins } from './debian.ts';
import { MIRROR, nodeVersion } from './options.ts';

const pins = readPins();
const version = nodeVersion();
const packages: Partial<Pins['packages']> = {};
const sha256: Partial<Pins['node']['sha256']> = {};
for (const [nodeName, architecture] of Object.entries(ARCHITECTURES)) {
  const apt = new Apt(pins.suite, architecture, MIRROR);
  packages[architecture] = pins.packages[architecture].map(({ name }): Pin => apt.newest(name));
  apt.close();
  const work = mkdtempSync(join(tmpdir(), 'gantry-node-'));
  // npm checks the package's integrity against the registry's.
  execFileSync('npm', ['pack', '--silent', `node-linux-${nodeName}@${version}`], { cwd: work });
  execFileSync('tar', ['-xzf', `node-linux-${nodeName}-${version}.tgz`, 'package/bin/node'], { cwd: work });
  sha256[architecture] = hash('sha256', readFileSync(join(work, 'package/bin/node')));
  rmSync(work, { recursive: true });
}
const made = { suite: pins.suite, packages, node: { version, sha256 } } as Pins;
writeFileSync(PINS_FILE, `${JSON.stringify(made, null, 2)}\n`);
