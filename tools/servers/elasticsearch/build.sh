#!/usr/bin/env bash
# build.sh DIR WORK JAVA_HOME: a real Elasticsearch node from Maven Central's jars, in DIR (which may be moved afterwards).
# Needs mvn (any Java), python3, node, and the Java 25 that is to run it. WORK is thrown away by the caller.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=$1 work=$2 java_home=$3
version=$(sed -n 's/.*<es.version>\(.*\)<.*/\1/p' "$here/pom.xml")

# A repository of its own: what Maven itself needs (75 MB) is of no use afterwards.
cp "$here/pom.xml" "$work/pom.xml"
mvn -q -B -f "$work/pom.xml" "-Dmaven.repo.local=$work/m2" process-resources
# Eclipse's compiler is a jar like the others: so no JDK is needed, only what runs the node.
"$java_home/bin/java" -jar "$work"/target/compiler/ecj-*.jar -21 -proc:none -nowarn \
  -cp "$(printf '%s:' "$work"/target/lib/*.jar)" -d "$work/classes" "$here/src/main/java"

mkdir -p "$dir"/{lib,config} "$dir"/modules/{transport-netty4,rest-root,analysis-lite}
mv "$work"/target/lib/*.jar "$dir/lib/"
mv "$dir"/lib/{transport-netty4-"$version",elasticsearch-ssl-config-"$version",netty-*}.jar "$dir/modules/transport-netty4/"
jar_of() { # JAR CLASS...: with the classes within them
  local jar=$1 class
  shift
  (cd "$work/classes" && for class; do printf '%s\n' "$class".class "$class"\$*.class; done | grep -v '\*' |
    python3 -c 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], "w"); [z.write(name.strip()) for name in sys.stdin]' "$jar")
}
# The launcher is a jar as well: an AOT cache (below) takes no folders.
jar_of "$dir/lib/gantry-launcher.jar" gantry/launch/EsNode
jar_of "$dir/modules/rest-root/rest-root.jar" gantry/es/RootPlugin
jar_of "$dir/modules/analysis-lite/analysis-lite.jar" gantry/es/AnalysisLite
describe() {
  printf 'description=%s\nname=%s\nversion=%s\nelasticsearch.version=%s\njava.version=21\nclassname=%s\n' \
    "$1" "$1" "$version" "$version" "$2" >"$dir/modules/$1/plugin-descriptor.properties"
}
describe transport-netty4 org.elasticsearch.transport.netty4.Netty4Plugin
describe rest-root gantry.es.RootPlugin
describe analysis-lite gantry.es.AnalysisLite
cp "$here/config/log4j2.properties" "$dir/config/"
cp "$here/run.sh" "$dir/"

# best_compression is Debian's libzstd.
case $(uname -m) in x86_64) platform=linux-x64 ;; aarch64) platform=linux-aarch64 ;; *) echo "no Elasticsearch on $(uname -m)" && exit 1 ;; esac
zstd=$(find /usr/lib /lib -name libzstd.so.1 -print -quit 2>/dev/null)
mkdir -p "$dir/lib/platform/$platform"
cp -L "${zstd:?libzstd1 is not installed}" "$dir/lib/platform/$platform/libzstd.so"
ln -s "$java_home" "$dir/java"

# One run to train: the classes that it used are kept loaded and linked (JEP 483). A start then costs 1.3 s of CPU, not 3.5.
node "$here/train.ts" "$dir" "$work/train"
test -s "$dir/node.aot"
