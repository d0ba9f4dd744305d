package org.dualpix.demo.core;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** Vectors that the Python side made, in {@code tests/golden/android} ({@code -Ddualpix.golden=FOLDER}). */
final class Golden {
    private static final File FOLDER = new File(System.getProperty("dualpix.golden", "../../tests/golden/android"));

    private Golden() {}

    static byte[] bytes(String name) throws IOException {
        return Folders.read(new File(FOLDER, name), 1 << 20);
    }

    static Object json(String name) throws IOException {
        return Json.parse(new String(bytes(name), "UTF-8"));
    }

    static List<String> names(String prefix, String suffix) {
        List<String> out = new ArrayList<>();
        for (String name : FOLDER.list()) {
            if (name.startsWith(prefix) && name.endsWith(suffix)) {
                out.add(name);
            }
        }
        if (out.isEmpty()) {
            throw new AssertionError("no " + prefix + "*" + suffix + " in " + FOLDER);
        }
        out.sort(null);
        return out;
    }

    static List<Map<String, Object>> objects(Object list) {
        List<Map<String, Object>> out = new ArrayList<>();
        ((List<?>) list).forEach(item -> out.add(object(item)));
        return out;
    }

    static Map<String, Object> object(Object value) {
        return Json.checked((Map<?, ?>) value);
    }

    static double number(Object value) {
        return "inf".equals(value) ? Double.POSITIVE_INFINITY : ((Number) value).doubleValue();
    }

    /** All numbers of lists in lists, in order. */
    static double[] numbers(Object value) {
        if (value instanceof List<?> list) {
            return list.stream().flatMapToDouble(item -> Arrays.stream(numbers(item))).toArray();
        }
        return new double[] {number(value)};
    }
}
