plugins {
    application
}

java {
    toolchain.languageVersion.set(JavaLanguageVersion.of(17))
}

dependencies {
    implementation(project(":core"))
}

application {
    mainClass.set("org.dualpix.demo.desktop.Main")
}
