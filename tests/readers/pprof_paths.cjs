// Reads a profile by pprof-format: a JSON array a path, [names from the outermost on, calls, own].
const fs = require("fs");
const { Profile } = require("pprof-format");

const profile = Profile.decode(fs.readFileSync(process.argv[2]));
const text = (index) => profile.stringTable.strings[Number(index)];
const types = profile.sampleType.map((type) => text(type.type) + "/" + text(type.unit));
if (types.join() !== "calls/count,time/nanoseconds") throw new Error(types.join());
const functions = new Map(profile.function.map((known) => [Number(known.id), known]));
const locations = new Map(profile.location.map((known) => [Number(known.id), known]));
const mappings = new Set(profile.mapping.map((known) => Number(known.id)));
for (const sample of profile.sample) {
  const names = sample.locationId.map((id) => {
    const location = locations.get(Number(id));
    if (!mappings.has(Number(location.mappingId))) throw new Error("a location without mapping");
    return text(functions.get(Number(location.line[0].functionId)).name);
  });
  console.log(JSON.stringify([names.reverse(), ...sample.value.map(Number)]));
}
